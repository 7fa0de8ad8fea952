"""A comparison of methods: what is to be done, doing it, and what it says."""
