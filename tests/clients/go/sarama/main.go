// sarama against a Kafka front door; its verbs are those of ../../java/Clients.java.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/IBM/sarama"

	. "sluice.test/clients/scenarios"
)

var bootstrap []string

func main() {
	bootstrap = []string{os.Args[2]}
	if os.Args[1] == "member" {
		member(os.Args[3], os.Args[4], os.Args[5])
		return
	}
	RunAll([]Scenario{
		{"produce", produce}, {"compressed", compressed}, {"group", group}, {"time", byTime},
		{"idempotent", idempotent}, {"transactions", transactions}, {"admin", admin},
		{"admin_groups", adminGroups},
	})
}

func settings() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Return.Successes = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	return config
}

func newAdmin() sarama.ClusterAdmin {
	return Must(sarama.NewClusterAdmin(bootstrap, settings()))
}

func topic(name string, partitions int32) string {
	made := Unique(name)
	adm := newAdmin()
	defer adm.Close()
	Check(adm.CreateTopic(made, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false))
	return made
}

func messages(to string, values []string) []*sarama.ProducerMessage {
	made := make([]*sarama.ProducerMessage, len(values))
	for at, value := range values {
		made[at] = &sarama.ProducerMessage{Topic: to, Value: sarama.StringEncoder(value)}
	}
	return made
}

func send(to string, values []string, config *sarama.Config) {
	producer := Must(sarama.NewSyncProducer(bootstrap, config))
	defer producer.Close()
	Check(producer.SendMessages(messages(to, values)))
}

func read(ctx context.Context, from string, count int, config *sarama.Config) []string {
	return readAt(ctx, from, count, sarama.OffsetOldest, config)
}

func readAt(ctx context.Context, from string, count int, offset int64, config *sarama.Config) []string {
	consumer := Must(sarama.NewConsumer(bootstrap, config))
	defer consumer.Close()
	all := make(chan *sarama.ConsumerMessage)
	for _, partition := range Must(consumer.Partitions(from)) {
		part := Must(consumer.ConsumePartition(from, partition, offset))
		defer part.AsyncClose()
		go func() {
			for message := range part.Messages() {
				select {
				case all <- message:
				case <-ctx.Done():
				}
			}
		}()
	}
	values := []string{}
	for len(values) < count {
		select {
		case message := <-all:
			values = append(values, string(message.Value))
		case <-ctx.Done():
			panic(fmt.Sprintf("%d of %d records of %s", len(values), count, from))
		}
	}
	return values
}

func produce(ctx context.Context) {
	for _, acks := range []sarama.RequiredAcks{sarama.WaitForLocal, sarama.WaitForAll} {
		to := topic("produce", 3)
		config := settings()
		config.Producer.RequiredAcks = acks
		send(to, Numbers(0, 300), config)
		Same(Sorted(read(ctx, to, 300, config)), Sorted(Numbers(0, 300)))
	}
}

func compressed(ctx context.Context) {
	for _, codec := range []sarama.CompressionCodec{
		sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD,
	} {
		to := topic("codec", 1)
		config := settings()
		config.Producer.Compression = codec
		send(to, Numbers(0, 1000), config)
		Same(read(ctx, to, 1000, config), Numbers(0, 1000))
	}
}

// handler hands over what its group reads, after it has committed it.
type handler struct {
	topic   string
	held    bool
	records chan *sarama.ConsumerMessage
}

func (handled *handler) Setup(session sarama.ConsumerGroupSession) error {
	if handled.held {
		Holds(session.Claims()[handled.topic])
	}
	return nil
}

func (handled *handler) Cleanup(sarama.ConsumerGroupSession) error {
	if handled.held {
		Holds(nil)
	}
	return nil
}

func (handled *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			session.MarkMessage(message, "")
			session.Commit()
			select {
			case handled.records <- message:
			case <-session.Context().Done():
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

// takeInGroup reads that many records as the only member of a group and leaves it.
func takeInGroup(ctx context.Context, name, from string, count int) []string {
	member := Must(sarama.NewConsumerGroup(bootstrap, name, settings()))
	handled := &handler{topic: from, records: make(chan *sarama.ConsumerMessage)}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- member.Consume(running, []string{from}, handled) }()
	values := []string{}
	for len(values) < count {
		select {
		case message := <-handled.records:
			values = append(values, string(message.Value))
		case err := <-ended:
			panic(fmt.Sprint("the session ended: ", err))
		case <-ctx.Done():
			panic(fmt.Sprintf("%d of %d records in a group", len(values), count))
		}
	}
	stop()
	Check(member.Close())
	return values
}

func group(ctx context.Context) {
	to, name := topic("group", 1), Unique("group")
	send(to, Numbers(0, 12), settings())
	Same(takeInGroup(ctx, name, to, 12), Numbers(0, 12))
	send(to, Numbers(12, 20), settings())
	Same(takeInGroup(ctx, name, to, 8), Numbers(12, 20))
}

func byTime(ctx context.Context) {
	to := topic("time", 1)
	base := time.Now().Add(-100 * time.Second).Truncate(time.Second)
	producer := Must(sarama.NewSyncProducer(bootstrap, settings()))
	for number, message := range messages(to, Numbers(0, 20)) {
		message.Timestamp = base.Add(time.Duration(number) * time.Second)
		_, _, err := producer.SendMessage(message)
		Check(err)
	}
	Check(producer.Close())
	cl := Must(sarama.NewClient(bootstrap, settings()))
	defer cl.Close()
	asked := base.Add(11500 * time.Millisecond).UnixMilli()
	offset := Must(cl.GetOffset(to, 0, asked))
	Same(offset, int64(12))
	Same(Must(cl.GetOffset(to, 0, sarama.OffsetNewest)), int64(20))
	Same(readAt(ctx, to, 8, offset, settings()), Numbers(12, 20))
}

func exact() *sarama.Config {
	config := settings()
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Net.MaxOpenRequests = 1
	return config
}

func idempotent(ctx context.Context) {
	to := topic("idempotent", 1)
	send(to, Numbers(0, 1000), exact())
	Same(read(ctx, to, 1000, settings()), Numbers(0, 1000))
}

func transactions(ctx context.Context) {
	source, to, name := topic("source", 1), topic("txn", 1), Unique("txn")
	config := exact()
	config.Producer.Transaction.ID = Unique("t")
	producer := Must(sarama.NewSyncProducer(bootstrap, config))
	for number, message := range messages(to, Numbers(0, 6)) {
		Check(producer.BeginTxn())
		_, _, err := producer.SendMessage(message)
		Check(err)
		offsets := map[string][]*sarama.PartitionOffsetMetadata{
			source: {{Partition: 0, Offset: int64(number + 1)}},
		}
		Check(producer.AddOffsetsToTxn(offsets, name))
		if number%2 == 0 {
			Check(producer.CommitTxn())
		} else {
			Check(producer.AbortTxn())
		}
	}
	Check(producer.Close())
	committed := settings()
	committed.Consumer.IsolationLevel = sarama.ReadCommitted
	Same(read(ctx, to, 3, committed), []string{"0", "2", "4"})
	Same(read(ctx, to, 6, settings()), Numbers(0, 6))
	adm := newAdmin()
	defer adm.Close()
	found := Must(adm.ListConsumerGroupOffsets(name, map[string][]int32{source: {0}}))
	Same(found.GetBlock(source, 0).Offset, int64(5))
}

func admin(ctx context.Context) {
	to := topic("admin", 2)
	adm := newAdmin()
	defer adm.Close()
	again := adm.CreateTopic(to, &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1}, false)
	if !errors.Is(again, sarama.ErrTopicAlreadyExists) {
		panic(fmt.Sprint("created twice: ", again))
	}
	Check(adm.CreatePartitions(to, 4, nil, false))
	Same(len(Must(adm.DescribeTopics([]string{to}))[0].Partitions), 4)
	value := "7200000"
	change := map[string]sarama.IncrementalAlterConfigsEntry{
		"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
	}
	Check(adm.IncrementalAlterConfig(sarama.TopicResource, to, change, false))
	resource := sarama.ConfigResource{Type: sarama.TopicResource, Name: to, ConfigNames: []string{"retention.ms"}}
	Same(Must(adm.DescribeConfig(resource))[0].Value, "7200000")
	config := settings()
	config.Producer.Partitioner = sarama.NewManualPartitioner
	send(to, Numbers(0, 10), config)
	Check(adm.DeleteRecords(to, map[int32]int64{0: 4}))
	cl := Must(sarama.NewClient(bootstrap, settings()))
	defer cl.Close()
	Same(Must(cl.GetOffset(to, 0, sarama.OffsetOldest)), int64(4))
	brokers, _, err := adm.DescribeCluster()
	Check(err)
	Same(len(brokers), 1)
	Check(adm.DeleteTopic(to))
}

func adminGroups(ctx context.Context) {
	to, name := topic("groups", 1), Unique("groups")
	send(to, Numbers(0, 10), settings())
	takeInGroup(ctx, name, to, 10)
	adm := newAdmin()
	defer adm.Close()
	Same(Must(adm.DescribeConsumerGroups([]string{name}))[0].State, "Empty")
	if _, listed := Must(adm.ListConsumerGroups())[name]; !listed {
		panic("not listed")
	}
	found := Must(adm.ListConsumerGroupOffsets(name, map[string][]int32{to: {0}}))
	Same(found.GetBlock(to, 0).Offset, int64(10))
	Check(adm.DeleteConsumerGroup(name))
}

func member(name, topic, strategy string) {
	Same(strategy, "range")
	config := settings()
	config.Consumer.Group.Session.Timeout = 6 * time.Second
	config.Consumer.Group.Heartbeat.Interval = time.Second
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	member := Must(sarama.NewConsumerGroup(bootstrap, name, config))
	handled := &handler{topic: topic, held: true, records: make(chan *sarama.ConsumerMessage)}
	go func() {
		for message := range handled.records {
			Record(message.Partition, message.Offset, message.Value)
		}
	}()
	ending := Terminated()
	for ending.Err() == nil {
		Check(member.Consume(ending, []string{topic}, handled))
	}
	Check(member.Close())
}
