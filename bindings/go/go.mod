module libsendfd/sendfd

go 1.21
