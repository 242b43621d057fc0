"""The three types of the cervix's transformation zone, which are the classes of every data set and model here."""

CLASS_NAMES = ("Type_1", "Type_2", "Type_3")
ABLATABLE = 0  # index of type 1: only a fully visible zone of it may be ablated (WHO 2021)
