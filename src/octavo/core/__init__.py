"""The words the rest of Octavo speaks in: requests, messages, cache specs, sampling parameters, errors."""
