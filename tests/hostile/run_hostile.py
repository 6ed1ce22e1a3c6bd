#!/usr/bin/env python3
"""run_hostile.py LOAD DIR [--sanitized] [REAL...]: opens every file of DIR/table.tsv with LOAD (load.c) and speaks TAP.

One test for each file: stage, code and message are those of the table, and no more memory was taken than 4 MiB and twice
the file. Each runs under `prlimit --as=512M --stack=256K --cpu=2` and load.c's seccomp filter; --sanitized leaves limits and
filter out, because AddressSanitizer needs its own memory and calls. Then the ambiguous archives (T11) against Python's
zipfile, and for each zip file among REAL the records and their bytes.
"""
import os
import subprocess
import sys
import zipfile
import zlib

LIMITS = ["prlimit", "--as=536870912", "--stack=262144", "--cpu=2"]
count = failed = 0


def say(good, text, why=""):
    global count, failed
    count += 1
    failed += not good
    print("%s %d - %s%s" % ("ok" if good else "not ok", count, text, "" if good else "\n# " + why), flush=True)
    return good


def load(program, path, sanitized, *flags):
    command = [program, "--free"] if sanitized else LIMITS + [program]
    done = subprocess.run(command + list(flags) + [path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def size_of(path):
    if not os.path.isdir(path): return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(path, f)) for f in os.listdir(path))


def check(program, path, stage, code, text, sanitized):
    """What is wrong, or ""; and how much memory was taken beyond twice the file, in KiB."""
    status, out, err = load(program, path, sanitized)
    fields = out.rstrip("\n").split("\t", 4)
    if status != 0 or len(fields) != 5: return "exit status %d: %s %s" % (status, out[-200:], err[-2000:]), 0
    beyond = int(fields[2]) - 2 * size_of(path) // 1024
    if fields[:2] != [stage, code] or text not in fields[4]:
        return "%s %s: %s; expected %s %s: ...%s" % (fields[0], fields[1], fields[4], stage, code, text), beyond
    if beyond > 4096 and not sanitized: return "took %s KiB for a file of %d bytes" % (fields[2], size_of(path)), beyond
    return "", beyond


def python_accepts(path):
    try:
        with zipfile.ZipFile(path) as z: return z.testzip() is None
    except Exception:
        return False


def python_records(path):
    with zipfile.ZipFile(path) as z:
        for e in z.infolist(): e.CRC = e.CRC or None  # written without checksums: none is compared
        return ["%d %08x %s" % (e.file_size, zlib.crc32(z.read(e)), e.filename) for e in z.infolist()]


def real_files(paths):
    for top in paths:
        for folder, _, files in sorted(os.walk(top)):
            for f in sorted(files):
                path = os.path.join(folder, f)
                if f.endswith(".distcp"): continue  # many archives, one behind the other
                with open(path, "rb") as h:
                    if h.read(4) == b"PK\3\4": yield path


def compare_real(program, paths, sanitized):
    same, different = 0, []
    for path in real_files(paths):
        try: expected = python_records(path)
        except Exception as e: expected = ["zipfile: %s" % e]
        status, out, _ = load(program, path, sanitized, "--records")
        opened = load(program, path, sanitized)[1].split("\t")
        if status == 0 and out.splitlines() == expected and opened[0] != "open": same += 1
        else: different.append(path)
    total = same + len(different)
    say(total > 0 and not different, "%d of %d zip files of others are accepted, with the records and bytes that Python's zipfile finds" % (same, total),
        ", ".join(different))


def main():
    sanitized = "--sanitized" in sys.argv
    program, top, *real = [a for a in sys.argv[1:] if a != "--sanitized"]
    program = os.path.abspath(program)
    with open(os.path.join(top, "table.tsv"), encoding="utf-8") as f: rows = [line.rstrip("\n").split("\t") for line in f]
    print("1..%d" % (len(rows) + 3 + bool(real)))
    right = ambiguous = refused = accepted = 0
    most = (0, "")
    for file, row, stage, code, text, kind in rows:
        path = os.path.join(top, file)
        why, beyond = check(program, path, stage, code, text, sanitized)
        right += say(why == "", "%s (%s)" % (file, row), why)
        most = max(most, (beyond, file))
        if kind == "zip":
            ambiguous += 1
            refused += load(program, path, sanitized)[1].startswith("open\t")
            accepted += python_accepts(path)
    say(len(rows) >= 300, "%d of %d hostile files end as the table says" % (right, len(rows)))
    say(sanitized or most[0] <= 4096, "at most %d KiB beyond twice the file (%s)" % most)
    say(refused == ambiguous >= 40, "%d of %d ambiguous archives are refused; Python's zipfile accepts %d" % (refused, ambiguous, accepted))
    if real: compare_real(program, real, sanitized)
    sys.exit(failed > 0)


main()
