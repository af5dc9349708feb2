"""The local provider: a server that speaks OpenAI's protocol and trains and runs small language models on this machine.

It runs in a separate process, `python -m reviewtune.local_server`, and listens on loopback by default. Nothing else in
reviewtune imports it.
"""
