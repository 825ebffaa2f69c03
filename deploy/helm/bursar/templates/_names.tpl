{{- /* Names and labels. Each takes a list: the top, and which of broker, agent and webhook. */ -}}

{{- define "bursar.name" -}}
{{- $top := index . 0 -}}
{{- printf "%s-%s" $top.Release.Name (index . 1) | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "bursar.metadata" -}}
name: {{ include "bursar.name" . }}
namespace: {{ (index . 0).Release.Namespace }}
labels: {{- include "bursar.labels" . | nindent 2 }}
{{- end -}}

{{- define "bursar.labels" -}}
{{ include "bursar.selector" . }}
app.kubernetes.io/part-of: bursar
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
{{- end -}}

{{- define "bursar.selector" -}}
app.kubernetes.io/name: bursar
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "bursar.image" -}}
{{- $top := index . 0 -}}
{{- printf "%s/bursar-%s:%s" $top.Values.image.registry (index . 1) ($top.Values.image.tag | default $top.Chart.AppVersion) -}}
{{- end -}}

{{- define "bursar.container" -}}
image: {{ include "bursar.image" . }}
imagePullPolicy: {{ (index . 0).Values.image.pullPolicy }}
{{- end -}}

{{- define "bursar.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "bursar.nobody" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "bursar.placement" -}}
{{- $values := . -}}
nodeSelector: {{- merge (dict "kubernetes.io/os" "linux") $values.nodeSelector | toYaml | nindent 2 }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end -}}

{{- /* The broker, as others in the cluster reach it. */ -}}
{{- define "bursar.address" -}}
{{- printf "https://%s.%s.svc:8443" (include "bursar.name" (list . "broker")) .Release.Namespace -}}
{{- end -}}

{{- /* Names of hosts. */ -}}
{{- define "bursar.resolving" -}}
- ports: [{ protocol: UDP, port: 53 }, { protocol: TCP, port: 53 }]
{{- end -}}

{{- define "bursar.serviceMonitor" -}}
{{- $top := index . 0 -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "bursar.name" . }}
  namespace: {{ $top.Release.Namespace }}
  labels: {{- merge (fromYaml (include "bursar.labels" .)) $top.Values.metrics.serviceMonitor.labels | toYaml | nindent 4 }}
spec:
  selector:
    matchLabels: {{- include "bursar.selector" . | nindent 6 }}
  endpoints:
    - { port: http, path: /metrics, interval: {{ $top.Values.metrics.serviceMonitor.interval }} }
{{- end -}}
