package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/quorate/quorate/ensemble/membership"
	"github.com/quorate/quorate/extender"
)

// addExtender answers the scheduler beside us.
func (p *process) addExtender(context.Context) error {
	c := &p.config.Extender
	client, informer, err := p.membership()
	if err != nil {
		return err
	}
	annotator := extender.NewAnnotator(client)
	placer := extender.NewPlacer(extender.PlacerConfig{
		Membership: informer, Poker: annotator, Timing: extender.Timing{Landing: c.BindLandingTimeout.Duration},
	})
	server, err := extender.NewServer(extender.ServerConfig{
		Placer: placer, BindAddress: c.BindAddress, Registry: p.registry,
		TLS: extender.TLSFiles{CertFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile, ClientCAFile: c.TLS.ClientCAFile},
	})
	if err != nil {
		return err
	}
	if namespace, name, ok := strings.Cut(c.SchedulerLease, "/"); ok {
		watch := &extender.LeaseWatch{Client: client, Lease: types.NamespacedName{Namespace: namespace, Name: name}, Placer: placer}
		p.parts = append(p.parts, watch.Run)
	}
	p.works = func() { placer.Holds() }
	p.parts = append(p.parts, annotator.Run, placer.Run, server.Run)
	return nil
}

// membership is the informer that all parts ask. It runs, and readiness waits for
// it, once somebody wants it.
func (p *process) membership() (kubernetes.Interface, *membership.Informer, error) {
	if p.informer != nil {
		return p.compact, p.informer, nil
	}
	var err error
	if p.ensembles, err = membership.NewClient(p.rest); err != nil {
		return nil, nil, err
	}
	compact := rest.CopyConfig(p.rest) // the built-in kinds come as protobuf
	compact.ContentType, compact.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	if p.compact, err = kubernetes.NewForConfig(compact); err != nil {
		return nil, nil, fmt.Errorf("make a client of the API server: %w", err)
	}
	p.informer = membership.NewInformer(membership.SourcesOf(p.compact, p.ensembles), nil)
	// Whoever sees an Ensemble first resolves its topology; the others find it done.
	keeper := membership.NewKeeper(p.informer, p.ensembles)
	p.parts = append(p.parts, p.informer.Run, keeper.Run)
	p.ready.Add("caches", func() error {
		if waiting := p.informer.Waiting(); len(waiting) > 0 {
			return errors.New("waiting for " + strings.Join(waiting, ", "))
		}
		return nil
	})
	return p.compact, p.informer, nil
}
