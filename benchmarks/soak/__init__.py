"""Does a long run need ever more memory, time or open files?"""
