"""Models on disk: finding them by name, reading their files, handing out their tensors."""
