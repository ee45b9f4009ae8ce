package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
	kyaml "sigs.k8s.io/yaml"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	// Line in the file; 0 where the field is not in it.
	Line int
	// Field by its path, e.g. webhook.certificates.source.
	Field string
	// What is wrong, and the way out.
	What string
}

// Error is the problem in one line.
func (p Problem) Error() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.What)
	return b.String()
}

// Parse makes the configuration of a file, and validates it. The error joins one
// Problem for each thing that is wrong.
func Parse(data []byte) (*QuorateConfiguration, error) {
	c, d, err := parse(data)
	if err != nil {
		return nil, err
	}
	for _, p := range c.Validate() {
		d.add(p.Field, d.line(p.Field), p.What)
	}
	if len(d.problems) > 0 {
		return nil, errors.Join(d.problems...)
	}
	return c, nil
}

func parse(data []byte) (*QuorateConfiguration, *decoder, error) {
	var doc yaml.Node
	stream := yaml.NewDecoder(bytes.NewReader(data))
	if err := stream.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil, Problem{What: "empty: begin with apiVersion: " + APIVersion + " and kind: " + Kind}
	} else if err != nil {
		return nil, nil, fmt.Errorf("not YAML: %w", err)
	}
	if err := stream.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, nil, Problem{What: "more than one document: leave one"}
	}
	c, d := Default(), &decoder{lines: map[string]int{}}
	c.APIVersion, c.Kind = "", ""
	d.decode(doc.Content[0], reflect.ValueOf(c).Elem(), "")
	if c.APIVersion != APIVersion {
		d.add("apiVersion", d.line("apiVersion"), fmt.Sprintf("%q is not known: write %s", c.APIVersion, APIVersion))
	}
	if c.Kind != Kind {
		d.add("kind", d.line("kind"), fmt.Sprintf("%q is not known: write %s", c.Kind, Kind))
	}
	if len(d.problems) > 0 {
		return nil, nil, errors.Join(d.problems...)
	}
	return c, d, nil
}

// decoder fills a value from a YAML tree, over what the value holds already, and
// remembers the line of each field.
type decoder struct {
	lines    map[string]int
	problems []error
}

func (d *decoder) add(field string, line int, what string) {
	d.problems = append(d.problems, Problem{Line: line, Field: field, What: what})
}

// line of the field, or of the nearest one that encloses it.
func (d *decoder) line(field string) int {
	for {
		if l, ok := d.lines[field]; ok {
			return l
		}
		i := strings.LastIndexAny(field, ".[")
		if i < 0 {
			return 0
		}
		field = field[:i]
	}
}

func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	d.lines[path] = n.Line
	_, own := reflect.TypeAssert[json.Unmarshaler](v.Addr())
	switch {
	case n.Tag == "!!null" && path != "":
		// Nothing said: the default stays.
	case !own && v.Kind() == reflect.Struct:
		d.decodeStruct(n, v, path)
	default:
		d.decodeValue(n, v, path)
	}
}

func (d *decoder) decodeStruct(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.add(path, n.Line, "must be a mapping of fields")
		return
	}
	fields := fieldsOf(v)
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		field, ok := fields[key.Value]
		switch {
		case !ok:
			d.add(at, key.Line, "unknown field"+suggest(key.Value, fields))
		case seen[key.Value]:
			d.add(at, key.Line, "given twice: remove one")
		default:
			seen[key.Value] = true
			d.decode(value, field, at)
			d.lines[at] = key.Line
		}
	}
}

// decodeValue leaves a leaf, or a list, to encoding/json, which knows the type's own
// rules.
func (d *decoder) decodeValue(n *yaml.Node, v reflect.Value, path string) {
	text, err := yaml.Marshal(n)
	if err == nil {
		err = kyaml.UnmarshalStrict(text, v.Addr().Interface())
	}
	if err == nil {
		return
	}
	if _, mismatch := errors.AsType[*json.UnmarshalTypeError](err); mismatch {
		d.add(path, n.Line, fmt.Sprintf("%q is not %s", strings.TrimSpace(string(text)), article(v.Type())))
		return
	}
	what := err.Error()
	for _, noise := range []string{"error unmarshaling JSON: ", "while decoding JSON: ", "json: "} {
		what = strings.TrimPrefix(what, noise)
	}
	d.add(path, n.Line, fmt.Sprintf("%q: %s", strings.TrimSpace(string(text)), what))
}

func article(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list"
	case reflect.Struct:
		return "a number with its unit, e.g. 5s"
	default:
		return "a number in the range of " + t.Kind().String()
	}
}

// fieldsOf the struct by the names that JSON gives them.
func fieldsOf(v reflect.Value) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case f.Anonymous && name == "":
			maps.Copy(fields, fieldsOf(v.Field(i)))
		case name != "":
			fields[name] = v.Field(i)
		}
	}
	return fields
}
