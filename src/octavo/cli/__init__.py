"""The command line: arguments become an `EngineConfig`; one file a command."""
