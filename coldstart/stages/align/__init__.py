"""align: fits that bring what is known of items into one space. `text_image` brings pictures and words together,
`behaviour` content and what people like.

A group: in a pipeline `align` stands for its parts; see `coldstart.stage.groups`. `behaviour` needs interactions, and
so is a part only of pipelines that name it.
"""

PARTS = ("text_image", "behaviour")
ON_DEMAND = ("behaviour",)
