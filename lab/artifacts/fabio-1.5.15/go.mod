module sutazai.example/lab/fabio

go 1.15

require github.com/fabiolb/fabio v1.5.15
