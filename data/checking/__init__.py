"""Every closed answer worked out a second time, from the text of its instruction."""
