"""Reading: from a JSON file to masked ids, the whole way, and the search for near-duplicates."""

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.files import ROOT, output_of
from benchmarks.rounds import HEAD, Part, Plan
from benchmarks.work import Work

# Run by a process of its own: how long a whole set takes from file to examples, and what memory.
READ = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from gpt.encoding import encode_all
from gpt.records import load_records
from gpt.template import Template
from gpt.tokenizer import Tokenizer
tokenizer, template = Tokenizer.from_folder(sys.argv[2]), Template.from_name("alpaca")
start = time.perf_counter()
records = load_records([sys.argv[3]])
examples = encode_all(records, tokenizer, template, 10**6)
seconds = time.perf_counter() - start
assert len(examples) == len(records)
status = Path("/proc/self/status")  # ru_maxrss would count the process that started this one
peak = status.read_text().split("VmHWM:")[1].split()[0] if status.exists() else "nan"
print(seconds, float(peak) * 1024)
"""


# Common words, of which made-up sentences have about as many tokens as real ones.
COMMON_WORDS = """
the of and to in is that it was for on are as with they at be this have from or had by
hot but some what there we can out other were all your when up use word how said an each she which
do their time if will way about many then them would write like so these her long make thing see
him two has look more day could go come did my sound no most number who over know water than call
first people may down side been now find any new work part take get place made live where after
back little only round man year came show every good me give our under name very through just form
much great think say help low line before turn cause same mean differ move right boy old too does
tell sentence set three want air well also play small end put home read hand port large spell add
even land here must big high such follow act why ask men change went light kind off need house
picture try us again animal point mother world near build self earth father head stand own page
should country found answer school grow study still learn plant cover food sun four thought let
keep eye never last door between city tree cross since hard start might story saw far sea draw left
late run while press close night real life few stop open seem together next white children begin
got walk example ease paper often always music those both mark book letter until mile river car
feet care second group carry took rain eat room friend began idea fish mountain north once base
hear horse cut sure watch colour face wood main"""


def write_records(path: Path, n: int) -> list[str]:
    """Records as long as Alpaca's, always the same; returns all of their texts."""
    rng, common, texts = np.random.default_rng(0), COMMON_WORDS.split(), []
    with path.open("w", encoding="utf-8") as file:
        for i in range(n):
            lengths = rng.lognormal([2.4, 1.9, 3.6], [0.4, 0.7, 0.9]).astype(int) + 1
            lengths[1] *= rng.random() < 0.4  # two in five have an input, as Alpaca's
            words = [common[k] for k in rng.integers(len(common), size=min(lengths.sum(), 600))]
            row = {}
            for key, length in zip(("instruction", "input", "output"), lengths, strict=True):
                taken, words = words[:length], words[length:]
                row[key] = " ".join(taken).capitalize() + "." * bool(taken)
            row["output"] = row["output"] or "Yes."
            texts += row.values()
            file.write(("[\n" if i == 0 else ",\n") + json.dumps(row))
        file.write("\n]\n")
    return texts


def bench_data(work: Work, plan: Plan) -> Part:
    """52,000 records from a JSON file to masked ids, against tiktoken encoding their bare texts."""
    from gpt.near_duplicates import near_duplicates
    from gpt.records import load_records
    from gpt.tokenizer import Tokenizer

    n, more = (520, 1_000) if plan.tiny else (52_000, 1_000_000)
    bare = Tokenizer.from_folder(work.folder)._bpe  # tiktoken's own Encoding
    began, part, peaks = time.perf_counter(), Part(), []
    ours: list[float] = []
    alone: list[float] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        path = Path(scratch) / "data.json"
        texts = write_records(path, n)
        n_rounds = plan.rounds or 0
        while not ours or len(ours) < n_rounds:
            start = time.perf_counter()
            seconds, peak = _read_in_a_process(work.folder, path)
            ours.append(seconds)
            peaks.append(peak)
            start_alone = time.perf_counter()
            for text in texts:
                bare.encode_ordinary(text)
            alone.append(time.perf_counter() - start_alone)
            # Half of the time is left for what comes after.
            half = Plan(plan.seconds / 2, plan.rounds)
            n_rounds = n_rounds or half.rounds_of(time.perf_counter() - start, start - began)
        a, b = median(ours), median(alone)
        rows = [
            [
                f"read, validate, template, tokenise and mask {n:,} records, "
                f"{path.stat().st_size / 1e6:.0f} MB (other: tiktoken alone on their texts)",
                f"{a:.2f} s, {max(peaks) / 1e6:.0f} MB",
                f"{b:.2f} s",
                f"{a / b:.2f} times as long",
            ]
        ]
        records = load_records([path])
        start = time.perf_counter()
        near_duplicates(records)
        seconds = time.perf_counter() - start
        rows.append([f"search {n:,} records for near-duplicates", f"{seconds:.1f} s", "", ""])
        del records, texts

        left_out = []
        scaled = a * more / n
        if time.perf_counter() - began + 1.5 * scaled < plan.seconds or plan.tiny:
            write_records(path, more)
            seconds, peak = _read_in_a_process(work.folder, path)
            rows.append(
                [
                    f"read … and mask {more:,} records (other: the {n:,}, scaled up)",
                    f"{seconds:.0f} s, {peak / 1e9:.2f} GB",
                    f"{scaled:.0f} s",
                    f"{seconds / scaled:.2f} times as long",
                ]
            )
        else:
            left_out.append(f"{more:,} records: left out for want of time (give more --minutes)")
    part.rounds["read"] = {"ours": ours, "tiktoken alone": alone}
    notes = [f"Medians of {len(ours)} rounds of each, in turn; the rest once.", *left_out]
    part.table("Data", HEAD, rows, notes)
    return part


def _read_in_a_process(vocabulary: Path, data: Path) -> tuple[float, float]:
    command = [sys.executable, "-c", READ, str(ROOT), str(vocabulary), str(data)]
    seconds, memory = map(float, output_of(command).split())
    return seconds, memory
