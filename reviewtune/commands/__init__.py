"""The commands of `reviewtune`: they read options, call the library and print the results."""
