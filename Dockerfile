# The image holds one static binary and the name of the user that runs it: no shell,
# no package manager. It builds from this repository alone:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=v0.1.0 .
#
# The commands of the build stage are those of `make image-root`; `make image-check`
# runs them, and the binary in the root file system that they make.
ARG GO_VERSION=1.26
FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-bookworm AS build
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make image-root GOOS=${TARGETOS} GOARCH=${TARGETARCH} VERSION=${VERSION} IMAGE_ROOT=/image

FROM scratch
COPY --from=build /image/ /
USER 65532:65532
ENTRYPOINT ["/quorate"]
