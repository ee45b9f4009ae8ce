package main

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

// authorized lets those through whom the API server knows by their token and lets get
// the path (a nonResourceURL).
func authorized(client kubernetes.Interface, next http.Handler) http.Handler {
	known := newVerdicts()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || token == "" {
			http.Error(w, "a bearer token is needed", http.StatusUnauthorized)
			return
		}
		sum := sha256.Sum256([]byte(token))
		key := string(sum[:]) + r.URL.Path
		verdict, ok := known.Get(key)
		if !ok {
			verdict = judge(r.Context(), client, token, r.URL.Path)
			if verdict != http.StatusInternalServerError {
				known.Add(key, verdict)
			}
		}
		if verdict != http.StatusOK {
			http.Error(w, http.StatusText(verdict), verdict)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func judge(ctx context.Context, client kubernetes.Interface, token, path string) int {
	review, err := client.AuthenticationV1().TokenReviews().Create(ctx,
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		klog.FromContext(ctx).Error(err, "Could not ask whose token it is")
		return http.StatusInternalServerError
	}
	if !review.Status.Authenticated {
		return http.StatusUnauthorized
	}
	user := review.Status.User
	extra := map[string]authorizationv1.ExtraValue{}
	for key, values := range user.Extra {
		extra[key] = authorizationv1.ExtraValue(values)
	}
	access, err := client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: "get"},
		},
	}, metav1.CreateOptions{})
	switch {
	case err != nil:
		klog.FromContext(ctx).Error(err, "Could not ask what a user may do", "user", user.Username)
		return http.StatusInternalServerError
	case !access.Status.Allowed:
		return http.StatusForbidden
	default:
		return http.StatusOK
	}
}
