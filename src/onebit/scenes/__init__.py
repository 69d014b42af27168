"""Detection and segmentation: boxes, masks, their figures and drawings. Needs no PyTorch."""
