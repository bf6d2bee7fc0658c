// Command franz does what a script on its standard input says (tests/producers/script.py), by franz-go; it prints where each
// record went.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	linger           = time.Minute
	requestBytesMax  = 64 << 20
	bufferedRecords  = 100_000
	operationTimeout = time.Minute

	// Of a busy machine: the broker would end a transaction that takes longer.
	transactionTimeout = 5 * time.Minute
)

type operation struct {
	Do              string   `json:"do"`
	By              string   `json:"by"`
	Codec           string   `json:"codec"`
	Idempotent      bool     `json:"idempotent"`
	TransactionalID *string  `json:"transactional_id"`
	BatchBytes      int32    `json:"batch_bytes"`
	Topic           string   `json:"topic"`
	Partition       int32    `json:"partition"`
	Key             []byte   `json:"key"`
	Value           []byte   `json:"value"`
	Headers         []header `json:"headers"`
	TimeMs          int64    `json:"time_ms"`
}

type header struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
}

type scripted struct {
	servers   string
	producers map[string]*kgo.Client
	sent      []*kgo.Record
	lock      sync.Mutex // of failures: each client tells them from a goroutine of its own
	failures  []error
}

func main() {
	program := &scripted{servers: os.Args[1], producers: map[string]*kgo.Client{}}
	script := json.NewDecoder(os.Stdin)
	for {
		var next operation
		err := script.Decode(&next)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = program.run(next)
		}
		if err != nil {
			log.Fatalf("%s by %s: %v", next.Do, next.By, err)
		}
	}
	for _, client := range program.producers {
		client.Close()
	}
	if err := errors.Join(program.failures...); err != nil {
		log.Fatal(err)
	}
	for _, record := range program.sent {
		fmt.Printf("[%d,%d]\n", record.Offset, record.Timestamp.UnixMilli())
	}
}

func (program *scripted) run(next operation) error {
	ctx, cancel := context.WithTimeout(context.Background(), operationTimeout)
	defer cancel()
	client := program.producers[next.By]
	switch next.Do {
	case "open":
		opened, err := program.open(next)
		program.producers[next.By] = opened
		return err
	case "begin":
		return client.BeginTransaction()
	case "send":
		program.send(client, next)
		return nil
	case "flush":
		return client.Flush(ctx)
	case "commit":
		return client.EndTransaction(ctx, kgo.TryCommit)
	case "abort":
		return client.EndTransaction(ctx, kgo.TryAbort)
	}
	return errors.New("unknown operation")
}

func (program *scripted) open(next operation) (*kgo.Client, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none":   kgo.NoCompression(),
		"gzip":   kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(),
		"lz4":    kgo.Lz4Compression(),
		"zstd":   kgo.ZstdCompression(),
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(program.servers),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codecs[next.Codec]),
		kgo.ProducerBatchMaxBytes(next.BatchBytes),
		kgo.BrokerMaxWriteBytes(requestBytesMax),
		kgo.MaxBufferedRecords(bufferedRecords),
		kgo.ProducerLinger(linger),
	}
	if !next.Idempotent {
		// One request after the other, so that records stay in order.
		options = append(options, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	}
	if next.TransactionalID != nil {
		options = append(options, kgo.TransactionalID(*next.TransactionalID), kgo.TransactionTimeout(transactionTimeout))
	}
	return kgo.NewClient(options...)
}

func (program *scripted) send(client *kgo.Client, next operation) {
	record := &kgo.Record{
		Topic:     next.Topic,
		Partition: next.Partition,
		Key:       next.Key,
		Value:     next.Value,
		Timestamp: time.UnixMilli(next.TimeMs),
	}
	for _, header := range next.Headers {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
	}
	program.sent = append(program.sent, record)
	client.Produce(context.Background(), record, func(_ *kgo.Record, err error) {
		if err != nil {
			program.lock.Lock()
			defer program.lock.Unlock()
			program.failures = append(program.failures, err)
		}
	})
}
