"""Names of layers that other modules rely on."""

BACKBONE_PREFIX = "backbone_"  # of every layer of a backbone
LOGITS = "logits"  # the classifier, and the output of a network with auxiliary outputs
LOGITS_RESIZE = "logits_resize"  # the layer that brings the logits to the image's size
BATCH_NORM_SUFFIX = "_bn"  # of a normalization, after the name of the layer that it follows
