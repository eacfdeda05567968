# The commands a reader types. Each is a line or two; CI calls the same.
