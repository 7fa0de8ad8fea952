"""The reliability campaign: many tries of what must never go wrong, seeded, each failure with the command that repeats it.

python -m tests.campaign                      all parts at full counts
python -m tests.campaign --only mutated --count 200 --seed 7
"""
