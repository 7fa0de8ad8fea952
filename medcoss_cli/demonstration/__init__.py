"""What `medcoss demo` shows: how far it is, what a frozen head still knows, and one picture of both."""
