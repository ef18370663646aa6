"""The pages for people: static files as they are in `static/`, a header in common, and what browsers are told of both."""
