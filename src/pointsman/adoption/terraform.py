def look(tree): return None
