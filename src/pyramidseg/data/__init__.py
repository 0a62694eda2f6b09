"""From files on a disk to batches: records, readers, masks, checks, augmentation, loading, and made scenes."""
