"""The layers that models are composed of. Layers know devices, weight formats and the cache; models do not."""
