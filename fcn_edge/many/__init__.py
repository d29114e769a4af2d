"""Many pictures on many machines: one list, each picture done once, and a record of it.

What is done to a picture is the same as in a plain run; here is what is needed beside it: names that two machines
agree on, a manifest that says what is done, and Ray, which brings the work to where the cores are.
"""
