"""align: fits that bring what is known of items into one space. `text_image` brings pictures and words together.

A group: in a pipeline `align` stands for all of its parts; see `coldstart.stage.groups`.
"""

PARTS = ("text_image",)
