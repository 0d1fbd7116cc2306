#!/usr/bin/env python3
"""Every file that the documentation names exists, and every section of models/METHOD.md that a comment cites.
  tests/links.py [ROOT]     prints FILE:LINE: what is missing; exit code 1 where anything is
"""
import os, re, subprocess, sys

os.chdir(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()
tracked = [name for name in tracked if os.path.exists(name)]
wrong = []

def lines(endings, skip=r"$^"):
    for name in tracked:
        if name.endswith(endings) and not re.search(skip, name):
            with open(name, encoding="utf-8") as file:
                for number, line in enumerate(file, 1): yield name, f"{name}:{number}", line

def anchors(path):
    with open(path, encoding="utf-8") as file: titles = re.findall(r"^#+ (.*)$", file.read(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

for name, where, line in lines((".md", ".svg"), skip=r"results/.*(table|2threads|sm_90a)\.md$"):  # written by programs
    folder = os.path.dirname(name)
    for path, anchor in re.findall(r'(?:\]\(|src=")(?!https?:)([^)\s"#]*)#?([^)\s"]*)[)"]', line):
        at = os.path.normpath(os.path.join(folder, path)) if path else name
        if not os.path.exists(at): wrong.append(f"{where}: no {path}")
        elif anchor and anchor not in anchors(at): wrong.append(f"{where}: no #{anchor} in {at}")
    # A path from the document's folder, from the top, or the end of exactly such a path.
    for path in re.findall(r"(?<![\w*/.-])(?:\.\./)*[a-z][\w/.-]*\.(?:h|cpp|cuh?|cmake|py|sh|md|svg)\b(?!\w)", line):
        if not (os.path.exists(os.path.join(folder, path)) or any(f"/{t}".endswith(f"/{path}") for t in tracked)):
            wrong.append(f"{where}: no {path}")
with open("models/METHOD.md", encoding="utf-8") as file:
    sections = set(re.findall(r"^(?:## |\*\*)(\d+(?:\.\d+)?)[. ]", file.read(), re.M))
for _, where, line in lines((".h", ".cpp", ".cu", ".cuh")):
    for section in re.findall(r"\d+(?:\.\d+)?", "".join(re.findall(r"METHOD\.md ([\d., -]*\d)", line))):
        if section not in sections: wrong.append(f"{where}: no section {section} in models/METHOD.md")
print("\n".join(wrong) or "the documentation names nothing that is missing")
sys.exit(bool(wrong))
