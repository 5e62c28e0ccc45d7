"""Workers as pods of a Kubernetes cluster; see docs/kubernetes.md.

options          what the provider can be told, option by option
reading          reads what only these have
checks           what is wrong with a configuration
config           what the provider is told: `KubernetesConfig`
names            names, labels and annotations of what it makes
metadata         labels and annotations, as pure functions
resources        what containers ask of their node, as pure functions
layout           what its containers and folders are called
strategic_merge  how a patch is merged with it
template_patch   what the settings' patch may not change of it
pod              the pod and the secret of a worker, as pure functions
paths            where the API has them
launches         makes them
unowned          names of secrets that no pod owns yet
diagnosis        what could explain a worker's failure
rights           what the server may do, as pure functions
manifests        the infrastructure of a namespace, as pure functions
serving          the server itself in a cluster, and what pulls images ahead, as pure functions
route            how pods reach the server
spaces           which namespaces workers are in
infrastructure   makes sure that it is there
sharing          whether several providers would make it differently
state            what a pod's object says of its worker
errors           what the API's refusals mean
patience         for how long it is left alone
credentials      where the cluster is and what lets the server in; knows the SDK
api              calls of the cluster's API; no other module knows the SDK
listing          whole lists of it
nodes            which of them are lost
images           which images run as their own user, as far as that is known
image_user       has others run as another
watching         pods as they change
figures          what is counted of them, and what all figures are called
capacity         what a cluster has for workers, as pure functions
survey           looks at it from time to time
health           whether the cluster can be used
ends             what those that are gone said last
removal          takes pods away
provider         the provider
"""

from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.options import ImagePullPolicy, ImageUser, OtpDelivery, PodSecurityStandard

__all__ = ["ImagePullPolicy", "ImageUser", "KubernetesConfig", "OtpDelivery", "PodSecurityStandard"]
