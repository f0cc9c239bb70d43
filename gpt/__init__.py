"""Talimat: instruction-tune GPT-2 from scratch, in raw PyTorch."""
