"""The data room: source row -> index -> decode -> view -> transform -> batch.

- `rows`: a data set as rows; `sources`: every form in which people have theirs, read to rows.
- `index`: each file probed once, in a process that may be killed, and what was found kept.
- `readers`: files to frames; `flow`: the same for optical flow.
- `views`: the frames of a clip, and all randomness; `pixels`: crop, resize, augment, normalize.
- `loading`: clips and batches by key, in workers that may hang or die.
- `killable`: the common part of such processes; `copies`: `vidinit data prepare`.
- `label_spaces`: classes that several data sets share.
"""
