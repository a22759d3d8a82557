"""Look at a version folder that somebody copied in, before anything serves it. Each module is one step:

hold        the version policy does not name it, whatever comes of the look
files       what lies in the folder: plain files only, nothing that is code
settings    the configuration that it goes with: the model's own, or one that is vetted or derived
artefact    the model file: what it is, whether opening it is safe, its tensors against the configuration
proof       evidence that it brings is replayed; where there is none, it is made
place       it gets what it lacks, the manifest last
"""

from __future__ import annotations
