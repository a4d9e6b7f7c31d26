// clientv3 of Debian's golang-etcd-server-dev. It is built without modules, from /usr/share/gocode.
//
//	client calls ENDPOINTS PREFIX            makes every kind of call, and fails where an answer is not etcd's
//	client watch ENDPOINTS PREFIX REVISION   prints a line an event, up to that of the key PREFIXend
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
	"go.etcd.io/etcd/etcdserver/api/v3rpc/rpctypes"
)

// How long one step may take. Reached only when it hangs.
const limit = 20 * time.Second

func main() {
	log.SetFlags(log.Lshortfile)
	if len(os.Args) < 4 {
		log.Fatal("calls or watch, endpoints, prefix")
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(os.Args[2], ","), DialTimeout: limit})
	must(err)
	defer client.Close()
	prefix := os.Args[3]
	switch os.Args[1] {
	case "calls":
		keys(client, prefix)
		transactions(client, prefix)
		leases(client, prefix)
		watches(client, prefix)
		locks(client, prefix)
		others(client)
	case "watch":
		revision, err := strconv.ParseInt(os.Args[4], 10, 64)
		must(err)
		watch(client, prefix, revision)
	default:
		log.Fatal("calls or watch")
	}
}

func must(err error) {
	if err != nil {
		log.Output(2, err.Error())
		os.Exit(1)
	}
}

// same fails unless both are printed alike.
func same(got, wanted interface{}) {
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		log.Output(2, fmt.Sprintf("%v, not %v", got, wanted))
		os.Exit(1)
	}
}

func soon() context.Context {
	ctx, _ := context.WithTimeout(context.Background(), limit)
	return ctx
}

func shown(answer *clientv3.GetResponse, err error) []string {
	must(err)
	all := []string{}
	for _, kv := range answer.Kvs {
		key := string(kv.Key)
		all = append(all, key[strings.LastIndex(key, "/")+1:]+"="+string(kv.Value))
	}
	return all
}

func put(client *clientv3.Client, key, value string) int64 {
	answer, err := client.Put(soon(), key, value)
	must(err)
	return answer.Header.Revision
}

func keys(client *clientv3.Client, prefix string) {
	prefix += "keys/"
	all := clientv3.WithPrefix()
	_, err := client.Delete(soon(), prefix, all)
	must(err)
	first := put(client, prefix+"a", "1")
	put(client, prefix+"c", "2")
	put(client, prefix+"b", "3")
	last := put(client, prefix+"a", "4")

	answer, err := client.Get(soon(), prefix+"a")
	must(err)
	kv := answer.Kvs[0]
	same([]int64{kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease}, []int64{first, last, 2, 0})
	same(shown(client.Get(soon(), prefix, all)), "[a=4 b=3 c=2]")
	same(shown(client.Get(soon(), prefix, all, clientv3.WithRev(first+1))), "[a=1 c=2]")
	same(shown(client.Get(soon(), prefix, all, clientv3.WithKeysOnly())), "[a= b= c=]")
	descending := clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)
	same(shown(client.Get(soon(), prefix, all, descending, clientv3.WithLimit(2))), "[c=2 b=3]")
	same(shown(client.Get(soon(), prefix, clientv3.WithFirstRev()...)), "[c=2]")
	same(shown(client.Get(soon(), prefix+"b", clientv3.WithFromKey(), clientv3.WithLimit(1))), "[b=3]")
	count, err := client.Get(soon(), prefix, all, clientv3.WithCountOnly())
	must(err)
	same([]int64{count.Count, int64(len(count.Kvs))}, "[3 0]")
	_, err = client.Get(soon(), prefix, clientv3.WithRev(last+1000))
	same(err, rpctypes.ErrFutureRev)

	written, err := client.Put(soon(), prefix+"a", "5", clientv3.WithPrevKV())
	must(err)
	same(string(written.PrevKv.Value), "4")
	deleted, err := client.Delete(soon(), prefix+"b", clientv3.WithRange(prefix+"d"), clientv3.WithPrevKV())
	must(err)
	same(deleted.Deleted, 2)
	same(string(deleted.PrevKvs[0].Value), "3")
	same(shown(client.Get(soon(), prefix, all)), "[a=5]")
}

func transactions(client *clientv3.Client, prefix string) {
	prefix += "transactions/"
	_, err := client.Delete(soon(), prefix, clientv3.WithPrefix())
	must(err)
	create := func(value string) *clientv3.TxnResponse {
		answer, err := client.Txn(soon()).
			If(clientv3.Compare(clientv3.CreateRevision(prefix+"a"), "=", 0)).
			Then(clientv3.OpPut(prefix+"a", value), clientv3.OpPut(prefix+"b", value), clientv3.OpGet(prefix+"a")).
			Else(clientv3.OpGet(prefix+"a")).
			Commit()
		must(err)
		return answer
	}
	created := create("1")
	same(created.Succeeded, true)
	same(string(created.Responses[2].GetResponseRange().Kvs[0].Value), "1")
	again := create("2")
	same(again.Succeeded, false)
	same(string(again.Responses[0].GetResponseRange().Kvs[0].Value), "1")
	values, err := client.Txn(soon()).
		If(clientv3.Compare(clientv3.Value(prefix+"a"), "=", "1"), clientv3.Compare(clientv3.Version(prefix+"b"), ">", 0)).
		Then(clientv3.OpDelete(prefix, clientv3.WithPrefix())).
		Commit()
	must(err)
	same(values.Responses[0].GetResponseDeleteRange().Deleted, 2)
	same(shown(client.Get(soon(), prefix, clientv3.WithPrefix())), "[]")
}

func leases(client *clientv3.Client, prefix string) {
	prefix += "leases/"
	lease, err := client.Grant(soon(), 3)
	must(err)
	_, err = client.Put(soon(), prefix+"a", "1", clientv3.WithLease(lease.ID))
	must(err)
	answer, err := client.Get(soon(), prefix+"a")
	must(err)
	same(answer.Kvs[0].Lease, int64(lease.ID))
	alive, err := client.KeepAlive(soon(), lease.ID)
	must(err)
	// The third comes when the lease would have ended: one is sent every second.
	for n := 0; n < 4; n++ {
		told := <-alive
		if told == nil {
			log.Fatal("keep-alive ended")
		}
		same([]int64{int64(told.ID), told.TTL}, []int64{int64(lease.ID), 3})
	}
	left, err := client.TimeToLive(soon(), lease.ID, clientv3.WithAttachedKeys())
	must(err)
	same([]string{fmt.Sprint(left.GrantedTTL), string(left.Keys[0])}, []string{"3", prefix + "a"})
	all, err := client.Leases(soon())
	must(err)
	found := false
	for _, one := range all.Leases {
		found = found || one.ID == lease.ID
	}
	same(found, true)
	_, err = client.Revoke(soon(), lease.ID)
	must(err)
	same(shown(client.Get(soon(), prefix+"a")), "[]")

	// One that nobody keeps alive.
	lease, err = client.Grant(soon(), 1)
	must(err)
	written, err := client.Put(soon(), prefix+"b", "1", clientv3.WithLease(lease.ID))
	must(err)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ended := <-client.Watch(ctx, prefix+"b", clientv3.WithRev(written.Header.Revision+1))
	must(ended.Err())
	same(ended.Events[0].Type, clientv3.EventTypeDelete)
}

func line(event *clientv3.Event) string {
	previous := "-"
	if event.PrevKv != nil {
		previous = string(event.PrevKv.Value)
	}
	return fmt.Sprintf("%d\t%s\t%s\t%s\t%s", event.Kv.ModRevision, event.Type, event.Kv.Key, event.Kv.Value, previous)
}

func watches(client *clientv3.Client, prefix string) {
	prefix += "watches/"
	_, err := client.Delete(soon(), prefix, clientv3.WithPrefix())
	must(err)
	first := put(client, prefix+"a", "1")
	second := put(client, prefix+"a", "2")
	_, err = client.Delete(soon(), prefix+"a")
	must(err)
	third := second + 1

	ctx, cancel := context.WithTimeout(context.Background(), limit)
	options := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(first), clientv3.WithPrevKV()}
	events := client.Watch(ctx, prefix, append(options, clientv3.WithCreatedNotify())...)
	created := <-events
	must(created.Err())
	same(created.Created, true)
	told := []string{}
	next := func(count int) []string {
		for len(told) < count {
			message, ok := <-events
			if !ok {
				log.Fatal("the watch ended")
			}
			must(message.Err())
			for _, event := range message.Events {
				told = append(told, line(event))
			}
		}
		return told
	}
	same(next(3), []string{
		fmt.Sprintf("%d\tPUT\t%sa\t1\t-", first, prefix),
		fmt.Sprintf("%d\tPUT\t%sa\t2\t1", second, prefix),
		fmt.Sprintf("%d\tDELETE\t%sa\t\t2", third, prefix),
	})
	fourth := put(client, prefix+"b", "3")
	same(next(4)[3], fmt.Sprintf("%d\tPUT\t%sb\t3\t-", fourth, prefix))
	must(client.RequestProgress(ctx))
	progress := <-events
	must(progress.Err())
	same(progress.IsProgressNotify(), true)
	if progress.Header.Revision < fourth {
		log.Fatal("progress of revision ", progress.Header.Revision)
	}
	cancel()
	for range events {
	}

	// Several on one stream, of one key, without deletions, in fragments.
	ctx, cancel = context.WithTimeout(context.Background(), limit)
	defer cancel()
	one := client.Watch(ctx, prefix+"a", clientv3.WithRev(first), clientv3.WithFilterPut())
	other := client.Watch(ctx, prefix+"a", clientv3.WithRev(first), clientv3.WithFilterDelete(), clientv3.WithFragment())
	deleted := <-one
	must(deleted.Err())
	same(line(deleted.Events[0]), fmt.Sprintf("%d\tDELETE\t%sa\t\t-", third, prefix))
	for wanted := first; wanted <= second; {
		message := <-other
		must(message.Err())
		for _, event := range message.Events {
			same(event.Kv.ModRevision, wanted)
			wanted++
		}
	}
}

func locks(client *clientv3.Client, prefix string) {
	session := func() *concurrency.Session {
		made, err := concurrency.NewSession(client, concurrency.WithTTL(10))
		must(err)
		return made
	}
	mine, others := session(), session()
	lock := concurrency.NewMutex(mine, prefix+"lock")
	must(lock.Lock(soon()))
	waiting := concurrency.NewMutex(others, prefix+"lock")
	locked := make(chan error)
	go func() { locked <- waiting.Lock(soon()) }()
	must(lock.Unlock(soon()))
	must(<-locked)
	must(waiting.Unlock(soon()))

	election := concurrency.NewElection(mine, prefix+"leader")
	must(election.Campaign(soon(), "mine"))
	leader, err := concurrency.NewElection(others, prefix+"leader").Leader(soon())
	must(err)
	same(string(leader.Kvs[0].Value), "mine")
	must(election.Resign(soon()))

	for wanted := 1; wanted <= 3; wanted++ {
		_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
			count, _ := strconv.Atoi(stm.Get(prefix + "counter"))
			if wanted == 1 {
				count = 0
			}
			stm.Put(prefix+"counter", strconv.Itoa(count+1))
			return nil
		})
		must(err)
		same(shown(client.Get(soon(), prefix+"counter")), fmt.Sprintf("[counter=%d]", wanted))
	}
	must(mine.Close())
	must(others.Close())
}

func others(client *clientv3.Client) {
	members, err := client.MemberList(soon())
	must(err)
	same(len(members.Members), 1)
	status, err := client.Status(soon(), client.Endpoints()[0])
	must(err)
	same(status.Leader, status.Header.MemberId)
	alarms, err := client.AlarmList(soon())
	must(err)
	same(len(alarms.Alarms), 0)
	must(client.Sync(soon()))
}

// watch leaves it to the client to find another endpoint when one ends. A lease is kept alive by then.
func watch(client *clientv3.Client, prefix string, revision int64) {
	lease, err := client.Grant(soon(), 9)
	must(err)
	alive, err := client.KeepAlive(context.Background(), lease.ID)
	must(err)
	options := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(revision), clientv3.WithPrevKV()}
	for message := range client.Watch(context.Background(), prefix, options...) {
		must(message.Err())
		for _, event := range message.Events {
			fmt.Println(line(event))
			if string(event.Kv.Key) == prefix+"end" {
				stillAlive(alive)
				return
			}
		}
	}
	log.Fatal("the watch ended")
}

// stillAlive leaves out what was answered until now, and waits for one more.
func stillAlive(alive <-chan *clientv3.LeaseKeepAliveResponse) {
	for len(alive) > 0 {
		<-alive
	}
	if told := <-alive; told == nil {
		log.Fatal("the lease is lost")
	}
}
