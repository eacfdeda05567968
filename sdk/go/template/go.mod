module greylist

go 1.24
