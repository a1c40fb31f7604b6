"""Super-resolution as callers ask for it: options, what they mean for a picture, and jobs for large ones."""
