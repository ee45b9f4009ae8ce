package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// System is the kind of servers that an ensemble is made of. It decides how
// their live health is asked for, not how a quorum is counted.
// +kubebuilder:validation:Enum=ZooKeeper;Etcd;Generic
type System string

const (
	// ZooKeeper is probed through its AdminServer, four letter words and
	// /zookeeper/config.
	ZooKeeper System = "ZooKeeper"
	// Etcd is probed through its maintenance and cluster APIs.
	Etcd System = "Etcd"
	// Generic is anything else: pod readiness, and an HTTP endpoint if one is named.
	Generic System = "Generic"
)

// Ensemble describes one majority-quorum system whose members are pods.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ens,categories=all
// +kubebuilder:printcolumn:name="Voters",type=integer,JSONPath=`.status.voters`
// +kubebuilder:printcolumn:name="Synced",type=integer,JSONPath=`.status.synced`
// +kubebuilder:printcolumn:name="Quorum",type=integer,JSONPath=`.status.quorum`
// +kubebuilder:printcolumn:name="Allowed",type=integer,JSONPath=`.status.disruptionsAllowed`,description="How many voters may be disrupted now"
// +kubebuilder:printcolumn:name="Placement",type=string,JSONPath=`.status.conditions[?(@.type=="PlacementSafe")].status`,description="Whether every protected failure domain may be lost"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Ensemble struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   EnsembleSpec   `json:"spec"`
	Status EnsembleStatus `json:"status,omitempty"`
}

// EnsembleList is a list of Ensembles.
//
// +kubebuilder:object:root=true
type EnsembleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Ensemble `json:"items"`
}

// EnsembleSpec is what the user states. Everything but the selector has a
// default that does no harm.
//
// +kubebuilder:validation:XValidation:rule="!has(self.probe) || !has(self.probe.zooKeeper) || self.system == 'ZooKeeper'",message="spec.probe.zooKeeper goes with spec.system: ZooKeeper; set spec.system, or remove spec.probe.zooKeeper"
// +kubebuilder:validation:XValidation:rule="!has(self.probe) || !has(self.probe.etcd) || self.system == 'Etcd'",message="spec.probe.etcd goes with spec.system: Etcd; set spec.system, or remove spec.probe.etcd"
// +kubebuilder:validation:XValidation:rule="!has(self.probe) || !has(self.probe.generic) || self.system == 'Generic'",message="spec.probe.generic goes with spec.system: Generic; set spec.system, or remove spec.probe.generic"
// +kubebuilder:validation:XValidation:rule="!has(self.quorum) || !has(self.quorum.oracle) || !self.quorum.oracle || (has(self.voters) && self.voters == 2)",message="spec.quorum.oracle goes with exactly two voters; set spec.voters: 2, or remove spec.quorum.oracle"
// +kubebuilder:validation:XValidation:rule="!has(self.voters) || !has(self.disruption) || !has(self.disruption.spare) || self.disruption.spare <= (self.voters - 1) / 2",message="spec.disruption.spare is more than this many voters can ever spare; set it to at most (spec.voters - 1) / 2"
type EnsembleSpec struct {
	// selector matches the member pods, in this namespace. It must select
	// something in particular: an empty selector would make every pod a member.
	// +kubebuilder:validation:XValidation:rule="(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",message="spec.selector must not be empty: it would make every pod of the namespace a member; name the labels of the member pods, e.g. {matchLabels: {app: zookeeper}}"
	Selector Selector `json:"selector"`

	// observers matches, among the members, those that never vote. Members that
	// join as observers and are promoted later must not be matched.
	// +kubebuilder:validation:XValidation:rule="(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",message="spec.observers must not be empty; name the labels of the members that never vote, or remove spec.observers"
	// +optional
	Observers *Selector `json:"observers,omitempty"`

	// system is the kind of servers.
	// +kubebuilder:default=ZooKeeper
	// +optional
	System System `json:"system,omitempty"`

	// voters is how many voters the ensemble is meant to have. Default: as many
	// members as their StatefulSets are to have, without those that
	// spec.observers matches.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=63
	// +optional
	Voters *int32 `json:"voters,omitempty"`

	// topology lists the failure domains that no quorum may depend on. Default:
	// hosts always, and zones where the nodes show enough of them; the resolved
	// list is in status.topology. An explicit list is taken literally.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, b.topologyKey == a.topologyKey && (has(b.within) ? b.within : '') == (has(a.within) ? a.within : '')))",message="spec.topology names a level twice; remove one"
	// +listType=atomic
	// +optional
	Topology []TopologyLevel `json:"topology,omitempty"`

	// quorum states weights, groups and an oracle where the live configuration
	// cannot be read. A live configuration overrules it.
	// +optional
	Quorum *QuorumSpec `json:"quorum,omitempty"`

	// probe says how the members' live health is asked for.
	// +optional
	Probe *ProbeSpec `json:"probe,omitempty"`

	// disruption says what an eviction must leave.
	// +optional
	Disruption DisruptionSpec `json:"disruption,omitempty"`
}

// Selector selects pods by label: a metav1.LabelSelector with bounded size.
// +structType=atomic
type Selector struct {
	// matchLabels must all be on the pod.
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$'))",message="a key of matchLabels is not a label's name: use letters, digits, '-', '_' and '.', with an optional DNS prefix and '/'"
	// +optional
	MatchLabels map[string]LabelValue `json:"matchLabels,omitempty"`

	// matchExpressions must all hold for the pod.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	MatchExpressions []SelectorRequirement `json:"matchExpressions,omitempty"`
}

// LabelValue is the value of a label.
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`
type LabelValue string

// SelectorRequirement is one expression of a Selector.
// +kubebuilder:validation:XValidation:rule="self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0",message="values go with the operators In and NotIn, and only with those"
type SelectorRequirement struct {
	// key is the label's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`
	Key string `json:"key"`
	// operator relates key and values.
	// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
	Operator metav1.LabelSelectorOperator `json:"operator"`
	// values to compare with.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Values []LabelValue `json:"values,omitempty"`
}

// UnsatisfiableAction says what happens to a pod that no safe domain is left for.
// +kubebuilder:validation:Enum=DoNotSchedule;ScheduleAnyway
type UnsatisfiableAction string

const (
	// DoNotSchedule keeps the pod pending: the level is protected.
	DoNotSchedule UnsatisfiableAction = "DoNotSchedule"
	// ScheduleAnyway prefers the least bad domain and promises nothing.
	ScheduleAnyway UnsatisfiableAction = "ScheduleAnyway"
)

// TopologyLevel is one kind of failure domain: nodes with equal values of the
// label are lost together.
// +kubebuilder:validation:XValidation:rule="!has(self.within) || self.within != self.topologyKey",message="the level lies within itself; name the label of the enclosing level in within, or remove within"
type TopologyLevel struct {
	// topologyKey is the node label whose values are the domains.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`
	TopologyKey string `json:"topologyKey"`

	// whenUnsatisfiable says whether the level is protected or only preferred.
	// +kubebuilder:default=DoNotSchedule
	// +optional
	WhenUnsatisfiable UnsatisfiableAction `json:"whenUnsatisfiable,omitempty"`

	// within is the label of the level that this one is a part of, where values
	// repeat: rack r1 of zone a is not rack r1 of zone b. Without it, equal values
	// are one domain.
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:Pattern=`^(([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$`
	// +optional
	Within string `json:"within,omitempty"`
}

// QuorumSpec states how votes are counted where that cannot be read from the
// members: ZooKeeper's group.N and weight.N, by pod.
// +kubebuilder:validation:XValidation:rule="!has(self.members) || self.members.all(m, !has(m.group)) || self.members.all(m, has(m.group))",message="spec.quorum.members: either every member names its group or none does (ZooKeeper refuses a voter without a group)"
type QuorumSpec struct {
	// members are the voters that differ from the default (weight 1, no group).
	// +kubebuilder:validation:MaxItems=63
	// +listType=map
	// +listMapKey=name
	// +optional
	Members []QuorumMember `json:"members,omitempty"`

	// oracle says that an ensemble of two voters has an oracle (ZooKeeper's
	// oraclePath) that lets one of them go on alone.
	// +optional
	Oracle bool `json:"oracle,omitempty"`
}

// QuorumMember is the weight and group of one voter.
type QuorumMember struct {
	// name of the member pod.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// weight of its vote. A voter of weight 0 counts for nothing.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +kubebuilder:default=1
	// +optional
	Weight *int64 `json:"weight,omitempty"`
	// group that it votes in; a quorum is a majority of weight in a majority of groups.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Group string `json:"group,omitempty"`
}

// ProbeSpec says how live health is asked for; the block of spec.system is used.
type ProbeSpec struct {
	// zooKeeper is for spec.system: ZooKeeper.
	// +optional
	ZooKeeper *ZooKeeperProbe `json:"zooKeeper,omitempty"`
	// etcd is for spec.system: Etcd.
	// +optional
	Etcd *EtcdProbe `json:"etcd,omitempty"`
	// generic is for spec.system: Generic.
	// +optional
	Generic *GenericProbe `json:"generic,omitempty"`
}

// ZooKeeperProbe names the ports of a ZooKeeper server.
type ZooKeeperProbe struct {
	// clientPort answers four letter words and clients.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:default=2181
	// +optional
	ClientPort int32 `json:"clientPort,omitempty"`
	// adminPort is the AdminServer's; 0 where it is switched off, or its port is
	// filtered: a leader whose AdminServer is silent is believed only if mntr is listed.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:default=8080
	// +optional
	AdminPort *int32 `json:"adminPort,omitempty"`
	// adminTLS says that the AdminServer speaks TLS (admin.forceHttps).
	// +optional
	AdminTLS bool `json:"adminTLS,omitempty"`
	// tls makes the client port be asked over TLS.
	// +optional
	TLS *ProbeTLS `json:"tls,omitempty"`
	// auth names a Secret with the keys username and password for digest
	// authentication, where /zookeeper/config needs it.
	// +optional
	Auth *SecretName `json:"auth,omitempty"`
}

// EtcdProbe names the port of an etcd member.
type EtcdProbe struct {
	// clientPort answers the maintenance and cluster APIs.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:default=2379
	// +optional
	ClientPort int32 `json:"clientPort,omitempty"`
	// tls makes it be asked over TLS.
	// +optional
	TLS *ProbeTLS `json:"tls,omitempty"`
}

// GenericProbe is pod readiness, and an HTTP endpoint where one is named.
type GenericProbe struct {
	// port of the endpoint; absent: readiness alone.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`
	// path of the endpoint. 200 means in sync.
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:default=/
	// +optional
	Path string `json:"path,omitempty"`
	// tls makes it be asked over TLS.
	// +optional
	TLS *ProbeTLS `json:"tls,omitempty"`
}

// ProbeTLS names the Secret with the trust and, for mTLS, the identity of a probe.
type ProbeTLS struct {
	// secretName of a Secret in the Ensemble's namespace: ca.crt, and for mTLS
	// tls.crt and tls.key. Read through a Role in that namespace only.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName"`
	// serverName that the certificate must bear. Default: the pod's IP.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	ServerName string `json:"serverName,omitempty"`
}

// SecretName names a Secret in the Ensemble's namespace.
type SecretName struct {
	// secretName of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName"`
}

// QuorumLostPolicy says what happens to evictions once quorum is lost.
// +kubebuilder:validation:Enum=DenySynced;AllowAll
type QuorumLostPolicy string

const (
	// DenySynced refuses to evict members that still serve; those that are
	// already down may always be evicted.
	DenySynced QuorumLostPolicy = "DenySynced"
	// AllowAll lets everything go: for an ensemble that is repaired by recreating it.
	AllowAll QuorumLostPolicy = "AllowAll"
)

// DisruptionSpec says what an eviction must leave.
type DisruptionSpec struct {
	// spare is how many further voters may be lost after an eviction with a
	// quorum still serving. 0: the eviction may leave exactly a quorum.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=31
	// +kubebuilder:default=0
	// +optional
	Spare int32 `json:"spare,omitempty"`

	// whenQuorumIsLost says what may be evicted from an ensemble that serves no
	// quorum any more. AllowAll holds once none was seen to serve for a minute: an
	// election looks the same.
	// +kubebuilder:default=DenySynced
	// +optional
	WhenQuorumIsLost QuorumLostPolicy `json:"whenQuorumIsLost,omitempty"`

	// podDisruptionBudget makes us keep a PodDisruptionBudget for the members, as
	// a backstop for the time that we are away. Adopt: only if nobody else has one.
	// +kubebuilder:validation:Enum=None;Adopt
	// +kubebuilder:default=None
	// +optional
	PodDisruptionBudget string `json:"podDisruptionBudget,omitempty"`
}

// Conditions of an Ensemble.
const (
	// ConditionQuorate says whether a quorum of voters is in sync, live.
	ConditionQuorate = "Quorate"
	// ConditionPlacementSafe says whether every protected domain may be lost.
	ConditionPlacementSafe = "PlacementSafe"
	// ConditionPlacementFeasible says whether a safe placement exists at all.
	ConditionPlacementFeasible = "PlacementFeasible"
)
