"""The demos of `onebit demo`: train, pack, verify and run a network on local data, and compare it with its float twin."""

# The module of each demo, by the word that the command takes. It has FILE, demonstrate and next_steps.
DEMOS = {"images": "digits", "text": "text", "sound": "sound"}
