{{- define "weftnet.image" -}}
{{- $tag := .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- with .root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ .name }}:{{ $tag }}
{{- end }}

{{- define "weftnet.labels" -}}
app.kubernetes.io/part-of: weftnet
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{ include "weftnet.selector" . }}
{{- end }}

{{- define "weftnet.selector" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- /* Not empty: each node has a DNS server. */ -}}
{{- define "weftnet.localDns" -}}
{{- if and .Values.dns.enabled .Values.dns.local.enabled -}}
{{- if not .Values.dns.clusterIPs -}}
{{- fail "dns.local needs dns.clusterIPs: the addresses that kubelets have as --cluster-dns; or set dns.local.enabled=false" -}}
{{- end -}}
yes
{{- end -}}
{{- end }}
