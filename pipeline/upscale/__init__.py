"""Pictures in, pictures four times larger out: the stage `upscale`, and the `Upscaler` of Python."""
