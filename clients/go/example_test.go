package crumbd_test

import (
	"context"
	"fmt"
	"net/http/httptest"

	crumbd "github.com/crumbd/crumbd/clients/go"
)

// exampleDaemon stands for a daemon at an address such as http://127.0.0.1:7811.
func exampleDaemon() *httptest.Server {
	before, after := world{"agents/1": `{"load":3}`}, world{"agents/1": `{"load":3}`, "agents/2": `{"load":5}`}
	return httptest.NewServer(&daemon{steps: []step{
		answer("c1", snapshot("c1", crumbd.ResyncInProgress, before)),
		answer("c2", updates("c2", crumbd.InSync, after, put("new", "agents/2", `{"load":5}`))),
	}})
}

func ExampleFollow() {
	daemon := exampleDaemon()
	defer daemon.Close()

	follower := crumbd.Follow(context.Background(), crumbd.Options{Endpoints: []string{daemon.URL}})
	defer follower.Close()
	for i := 0; i < 2; i++ { // An application has `for {` here.
		event, err := follower.Next()
		if err != nil {
			fmt.Println(err) // Going on cannot help.
			return
		}
		for _, change := range event.Changes {
			fmt.Printf("%s: %s %s %s\n", event.Status, change.Type, change.Key, change.Value)
		}
	}
	// Output:
	// resync-in-progress: new agents/1 {"load":3}
	// in-sync: new agents/2 {"load":5}
}

func ExampleMirror() {
	daemon := exampleDaemon()
	defer daemon.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	mirror := crumbd.NewMirror(crumbd.Options{Endpoints: []string{daemon.URL}})
	go mirror.Run(ctx)
	if err := mirror.WaitForSync(ctx); err != nil {
		fmt.Println(err)
		return
	}
	for _, entry := range mirror.List([]byte("agents/")) {
		fmt.Printf("%s %s\n", entry.Key, entry.Value)
	}
	// Output:
	// agents/1 {"load":3}
	// agents/2 {"load":5}
}

func ExampleMirror_AddEventHandler() {
	daemon := exampleDaemon()
	defer daemon.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	told := make(chan string)
	mirror := crumbd.NewMirror(crumbd.Options{Endpoints: []string{daemon.URL}})
	mirror.AddEventHandler(crumbd.Handler{
		OnAdd: func(key, value []byte) { told <- fmt.Sprintf("added %s", key) },
	})
	go mirror.Run(ctx)
	fmt.Println(<-told)
	fmt.Println(<-told)
	// Output:
	// added agents/1
	// added agents/2
}

func ExampleNewTyped() {
	daemon := exampleDaemon()
	defer daemon.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	type agent struct{ Load int }
	mirror := crumbd.NewMirror(crumbd.Options{Endpoints: []string{daemon.URL}})
	agents := crumbd.NewTyped[agent](mirror, nil)
	go mirror.Run(ctx)
	if err := mirror.WaitForSync(ctx); err != nil {
		fmt.Println(err)
		return
	}
	second, ok, err := agents.Get([]byte("agents/2"))
	fmt.Println(second.Load, ok, err)
	// Output: 5 true <nil>
}
