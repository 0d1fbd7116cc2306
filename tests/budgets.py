#!/usr/bin/env python3
"""Prints lines of code by room, beside what each may have: a change past a budget deletes first."""
import os

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CODE = (".h", ".cpp", ".cu", ".cuh")
# What a learner reads; what a tuner of kernels reads; all else that is shipped. Tests are not counted.
STORY = ("layers", "models", "train/loop", "train/objectives", "train/optim", "train/predict")
BUDGETS = {"story": 6500, "kernels": 8000, "rest": 12000}


def lines(path):
    with open(path, encoding="utf-8") as file:
        return sum(1 for _ in file)


def part_of(folder):
    """story, kernels, rest, or None where nothing is counted."""
    if folder == "engine" or folder.startswith(STORY):
        return "story"
    if folder.startswith("kernels"):
        return None if folder.startswith("kernels/study") else "kernels"
    return "rest" if folder.startswith(("engine", "train", "tools")) else None


rooms = {}
for top in ("engine", "kernels", "layers", "models", "train", "tools"):
    for folder, _, names in os.walk(os.path.join(ROOT, top)):
        room = os.path.relpath(folder, ROOT)
        count = sum(lines(os.path.join(folder, name)) for name in names if name.endswith(CODE))
        if count and part_of(room):
            rooms[room] = count
for part, budget in BUDGETS.items():
    own = {room: count for room, count in rooms.items() if part_of(room) == part}
    total = sum(own.values())
    print(f"{part}: {total} lines of {budget}{'' if total <= budget else ', OVER'}:",
          ", ".join(f"{room} {count}" for room, count in sorted(own.items(), key=lambda item: -item[1])))
