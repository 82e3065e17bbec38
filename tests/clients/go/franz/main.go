// franz-go against a Kafka front door; its verbs are those of ../../java/Clients.java.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	. "sluice.test/clients/scenarios"
)

var bootstrap string

func main() {
	bootstrap = os.Args[2]
	if os.Args[1] == "member" {
		member(os.Args[3], os.Args[4], os.Args[5])
		return
	}
	RunAll([]Scenario{
		{"produce", produce}, {"compressed", compressed}, {"group", group}, {"time", byTime},
		{"idempotent", idempotent}, {"transactions", transactions}, {"exactly_once", exactlyOnce},
		{"admin", admin}, {"admin_groups", adminGroups},
	})
}

func client(options ...kgo.Opt) *kgo.Client {
	return Must(kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(bootstrap)}, options...)...))
}

func topic(ctx context.Context, name string, partitions int32) string {
	made := Unique(name)
	cl := client()
	defer cl.Close()
	Check(Must(kadm.NewClient(cl).CreateTopic(ctx, partitions, 1, nil, made)).Err)
	return made
}

func send(ctx context.Context, to string, values []string, options ...kgo.Opt) {
	cl := client(options...)
	defer cl.Close()
	records := make([]*kgo.Record, len(values))
	for at, value := range values {
		records[at] = &kgo.Record{Topic: to, Value: []byte(value)}
	}
	Check(cl.ProduceSync(ctx, records...).FirstErr())
}

func take(ctx context.Context, cl *kgo.Client, count int) []*kgo.Record {
	var records []*kgo.Record
	for len(records) < count {
		fetches := cl.PollRecords(ctx, count-len(records))
		Check(fetches.Err())
		records = append(records, fetches.Records()...)
	}
	return records
}

func read(ctx context.Context, from string, count int, options ...kgo.Opt) []string {
	options = append(options, kgo.ConsumeTopics(from), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	cl := client(options...)
	defer cl.Close()
	return values(take(ctx, cl, count))
}

func values(records []*kgo.Record) []string {
	found := make([]string, len(records))
	for at, record := range records {
		found[at] = string(record.Value)
	}
	return found
}

func produce(ctx context.Context) {
	for _, acks := range []kgo.Acks{kgo.NoAck(), kgo.LeaderAck(), kgo.AllISRAcks()} {
		to := topic(ctx, "produce", 3)
		send(ctx, to, Numbers(0, 300), kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
		Same(Sorted(read(ctx, to, 300)), Sorted(Numbers(0, 300)))
	}
}

func compressed(ctx context.Context) {
	for _, codec := range []kgo.CompressionCodec{
		kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	} {
		to := topic(ctx, "codec", 1)
		send(ctx, to, Numbers(0, 1000), kgo.ProducerBatchCompression(codec))
		Same(read(ctx, to, 1000), Numbers(0, 1000))
	}
}

func group(ctx context.Context) {
	to, name := topic(ctx, "group", 1), Unique("group")
	send(ctx, to, Numbers(0, 20))
	for _, expected := range [][]string{Numbers(0, 12), Numbers(12, 20)} {
		cl := client(
			kgo.ConsumerGroup(name), kgo.ConsumeTopics(to), kgo.DisableAutoCommit(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		)
		records := take(ctx, cl, len(expected))
		Check(cl.CommitRecords(ctx, records...))
		cl.Close()
		Same(values(records), expected)
	}
}

func byTime(ctx context.Context) {
	to := topic(ctx, "time", 1)
	base := time.Now().Add(-100 * time.Second).Truncate(time.Second)
	cl := client()
	defer cl.Close()
	for number := range 20 {
		record := &kgo.Record{
			Topic: to, Value: []byte(fmt.Sprint(number)), Timestamp: base.Add(time.Duration(number) * time.Second),
		}
		Check(cl.ProduceSync(ctx, record).FirstErr())
	}
	asked := base.Add(11500 * time.Millisecond).UnixMilli()
	found, _ := Must(kadm.NewClient(cl).ListOffsetsAfterMilli(ctx, asked, to)).Lookup(to, 0)
	Same(found.Offset, int64(12))
	reader := client(kgo.ConsumeTopics(to), kgo.ConsumeResetOffset(kgo.NewOffset().AfterMilli(asked)))
	defer reader.Close()
	Same(values(take(ctx, reader, 8)), Numbers(12, 20))
}

func idempotent(ctx context.Context) {
	to := topic(ctx, "idempotent", 1)
	send(ctx, to, Numbers(0, 3000), kgo.ProducerBatchMaxBytes(1000))
	Same(read(ctx, to, 3000), Numbers(0, 3000))
}

func transactions(ctx context.Context) {
	to := topic(ctx, "txn", 1)
	cl := client(kgo.TransactionalID(Unique("t")))
	for number := range 6 {
		Check(cl.BeginTransaction())
		record := &kgo.Record{Topic: to, Value: []byte(fmt.Sprint(number))}
		Check(cl.ProduceSync(ctx, record).FirstErr())
		Check(cl.EndTransaction(ctx, kgo.TransactionEndTry(number%2 == 0)))
	}
	cl.Close()
	Same(read(ctx, to, 3, kgo.FetchIsolationLevel(kgo.ReadCommitted())), []string{"0", "2", "4"})
	Same(read(ctx, to, 6), Numbers(0, 6))
}

func exactlyOnce(ctx context.Context) {
	source, sink := topic(ctx, "source", 1), topic(ctx, "sink", 1)
	send(ctx, source, Numbers(0, 30))
	session := Must(kgo.NewGroupTransactSession(
		kgo.SeedBrokers(bootstrap), kgo.TransactionalID(Unique("t")), kgo.ConsumerGroup(Unique("eos")),
		kgo.ConsumeTopics(source), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RequireStableFetchOffsets(),
	))
	defer session.Close()
	for done := 0; done < 30; {
		fetches := session.PollRecords(ctx, 10)
		Check(fetches.Err())
		Check(session.Begin())
		for _, record := range fetches.Records() {
			session.Produce(ctx, &kgo.Record{Topic: sink, Value: record.Value}, nil)
		}
		if Must(session.End(ctx, kgo.TryCommit)) {
			done += len(fetches.Records())
		}
	}
	Same(read(ctx, sink, 30, kgo.FetchIsolationLevel(kgo.ReadCommitted())), Numbers(0, 30))
}

func admin(ctx context.Context) {
	to := topic(ctx, "admin", 2)
	cl := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	adm := kadm.NewClient(cl)
	_, err := adm.CreateTopic(ctx, 2, 1, nil, to)
	Same(err, error(kerr.TopicAlreadyExists))
	Check(Must(adm.UpdatePartitions(ctx, 4, to)).Error())
	Same(len(Must(adm.ListTopics(ctx, to))[to].Partitions), 4)
	value := "7200000"
	change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &value}}
	Check(Must(adm.AlterTopicConfigs(ctx, change, to))[0].Err)
	described := Must(Must(adm.DescribeTopicConfigs(ctx, to)).On(to, nil))
	at := slices.IndexFunc(described.Configs, func(config kadm.Config) bool { return config.Key == "retention.ms" })
	Same(described.Configs[at].MaybeValue(), "7200000")
	for number := range 10 {
		Check(cl.ProduceSync(ctx, &kgo.Record{Topic: to, Value: []byte(fmt.Sprint(number))}).FirstErr())
	}
	until := kadm.Offsets{}
	until.AddOffset(to, 0, 4, -1)
	deleted, _ := Must(adm.DeleteRecords(ctx, until)).Lookup(to, 0)
	Same(deleted.LowWatermark, int64(4))
	Same(len(Must(adm.ListBrokers(ctx))), 1)
	Check(Must(adm.DeleteTopic(ctx, to)).Err)
}

func adminGroups(ctx context.Context) {
	to, name := topic(ctx, "groups", 1), Unique("groups")
	send(ctx, to, Numbers(0, 10))
	consumer := client(
		kgo.ConsumerGroup(name), kgo.ConsumeTopics(to), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	records := take(ctx, consumer, 10)
	Check(consumer.CommitRecords(ctx, records[:6]...))
	cl := client()
	defer cl.Close()
	adm := kadm.NewClient(cl)
	described := Must(adm.DescribeGroups(ctx, name))[name]
	Same([]any{described.State, len(described.Members)}, []any{"Stable", 1})
	lag, _ := Must(adm.Lag(ctx, name))[name].Lag.Lookup(to, 0)
	Same(lag.Lag, int64(4))
	if _, listed := Must(adm.ListGroups(ctx))[name]; !listed {
		panic("not listed")
	}
	consumer.Close()
	Check(Must(adm.DeleteGroup(ctx, name)).Err)
}

func member(name, topic, strategy string) {
	balancers := map[string]kgo.GroupBalancer{
		"range": kgo.RangeBalancer(), "cooperative": kgo.CooperativeStickyBalancer(),
	}
	var lock sync.Mutex
	held := map[int32]bool{}
	change := func(given map[string][]int32, holds bool) {
		lock.Lock()
		defer lock.Unlock()
		for _, partition := range given[topic] {
			if holds {
				held[partition] = true
			} else {
				delete(held, partition)
			}
		}
		now := []int32{}
		for partition := range held {
			now = append(now, partition)
		}
		Holds(now)
	}
	gone := func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { change(lost, false) }
	cl := client(
		kgo.ConsumerGroup(name), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.Balancers(balancers[strategy]),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(time.Second), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, got map[string][]int32) { change(got, true) }),
		kgo.OnPartitionsRevoked(gone), kgo.OnPartitionsLost(gone),
	)
	ending := Terminated()
	for ending.Err() == nil {
		fetches := cl.PollFetches(ending)
		if records := fetches.Records(); len(records) > 0 {
			Check(cl.CommitRecords(context.Background(), records...))
			for _, record := range records {
				Record(record.Partition, record.Offset, record.Value)
			}
		}
		cl.AllowRebalance()
	}
	cl.CloseAllowingRebalance()
}
