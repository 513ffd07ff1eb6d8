# hog_table_grow(slots): grows a table of references of its own and returns its old size, or -1.
	.tabletype	hog_table, externref
hog_table:
	.globl	hog_table_grow
	.type	hog_table_grow,@function
hog_table_grow:
	.functype	hog_table_grow (i32) -> (i32)
	ref.null_extern
	local.get	0
	table.grow	hog_table
	end_function
