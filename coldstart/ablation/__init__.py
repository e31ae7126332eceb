"""Does each stage pay its way? New items found by what one stage after another tells of them, against compute seconds.

`steps` judges plain data, `gains` compares, `texts`, `descriptions` and `costs` read a workspace, `report` says it.

Evaluation of what a workspace serves, on items that no fit has seen.
"""
