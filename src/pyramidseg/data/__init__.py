"""Image-mask pairs for training: records, masks to labels, checks, augmentation and loading."""
