"""Data sets for tracking, in the layouts in which they are published.

============  =====================================  ==============================================================
data set      pictures                               boxes
============  =====================================  ==============================================================
OTB           ``NAME/img``                           ``NAME/groundtruth_rect.txt``, or ``groundtruth_rect.1.txt`` and
                                                     so on for several targets, or ``anno/NAME.txt``
Temple-Color  ``NAME/img``                           ``NAME/NAME_gt.txt``, ``NAME/NAME_frames.txt``
GOT-10k       ``NAME/00000001.jpg``                  ``NAME/groundtruth.txt``, ``absence.label``, ``cover.label``;
                                                     ``list.txt`` beside the folders
LaSOT         ``CATEGORY/NAME/img``                  ``CATEGORY/NAME/groundtruth.txt``, ``full_occlusion.txt``,
                                                     ``out_of_view.txt``
TNL2K         ``NAME/imgs``                          ``NAME/groundtruth.txt``
VOT           ``NAME/color``, ``ir``, or as GOT-10k  ``NAME/groundtruth.txt`` with rectangles, polygons or masks, or
                                                     ``groundtruth_TARGET.txt``; ``list.txt`` beside the folders
TrackingNet   ``TRAIN_0/frames/NAME/0.jpg``          ``TRAIN_0/anno/NAME.txt``
UAV123        ``data_seq/UAV123/NAME``               ``anno/UAV123/NAME.txt``
VisDrone-SOT  ``sequences/NAME``                     ``annotations/NAME.txt``
MOT           ``NAME/img1``                          ``NAME/gt/gt.txt``
packed        ``frames.bin``: one after another      ``tracks.json``: offsets and boxes
============  =====================================  ==============================================================

Pictures are taken in natural order (2 before 10). Row k belongs to picture k where there are as many rows as pictures.
Where there are not, the data set's own configuration decides (:mod:`~spm_rt.media.datasets.pairing`), or a file
``frames.txt`` with the numbers of the first and the last picture; whatever cannot be paired so is refused.

No toolkit subtracts anything from the boxes, whatever their origin, and neither is anything subtracted here:

============  ====================  ==================================================================================
data set      first pixel in files  its own toolkit
============  ====================  ==================================================================================
OTB           1 (Matlab)            compares them as they stand, and so does the GOT-10k toolkit
LaSOT         1                     as they stand; frames marked absent are not scored
UAV123        1 (Matlab)            as they stand
MOT           1                     as they stand; flag 0 and other classes than pedestrian are not scored
GOT-10k       0                     as they stand; frames with a cover of 0 are not scored
TrackingNet   0                     rounds boxes of both sides to whole pixels before it compares them (not done here)
VOT           0                     as they stand; a polygon or mask becomes its bounds where a rectangle is needed
============  ====================  ==================================================================================

A sequence starts with its target's first box. Rows without a usable box (NaN, no size, marked absent, hidden or out of
view) are tracked but not scored.
"""

from .finding import find_sequences as find_sequences
from .rows import read_boxes as read_boxes
from .rows import usable as usable
from .sequences import Sequence as Sequence
from .sequences import Sequences as Sequences
