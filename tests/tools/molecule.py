def selection(ci):
    return []


def where_each_ran(ci):
    return ""
