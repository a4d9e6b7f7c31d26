module github.com/crumbd/crumbd/clients/go

go 1.21
