//! Writes to the API server: documents as objects, operators' overrides as an annotation.

use std::collections::BTreeMap;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use pointsman_filter::base::hash;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::object::Object;
use crate::model::clock::now;
use crate::model::json;
use crate::model::overrides::{Edit, Override, edit_values};
use crate::registry::edit::{ATTEMPTS_MAX, Document, EditError};
use crate::registry::edit::{CompareAndSwap, Seen, Swapped};
use crate::registry::feeds::crd;
use crate::registry::follow::Told;
use crate::registry::records::{Report, Verdict};
use crate::stores::kubernetes::access::{Access, error_chain, is_passing};

/// Who says the operators' overrides, in the objects' `managedFields`.
const MANAGER: &str = "pointsman-overrides";
/// Longest name of an object, bytes.
const NAME_MAX: usize = 253;

/// The way to change the registry in Kubernetes.
#[derive(Clone)]
pub struct KubernetesEditor {
    objects: Api<DynamicObject>,
    place: String,
    /// What the feed has read: which object has each name.
    told: watch::Receiver<Told>,
}

type Asked<T> = Result<T, kube::Error>;

impl KubernetesEditor {
    /// An editor of this namespace, of which this was `told`.
    pub fn new(access: &Access, told: watch::Receiver<Told>) -> Self {
        let Access {
            objects,
            url,
            namespace,
            ..
        } = access;
        KubernetesEditor {
            objects: objects.clone(),
            place: format!("Kubernetes at {url}, namespace {namespace}"),
            told,
        }
    }

    /// Applies an operator's act on a backend; what has ended goes with it.
    pub async fn edit_override(
        &self,
        cluster: &str,
        backend: &str,
        act: &Edit,
    ) -> Result<Option<Override>, EditError> {
        for _ in 0..ATTEMPTS_MAX {
            let found = self
                .find(cluster)
                .await
                .map_err(|error| self.error(&error))?;
            let Some(found) = found else {
                let why = format!("there is no BackendCluster for {cluster} to note the entry on");
                return Err(EditError::Refused(why));
            };
            refuse_deleting(&found)?;
            let (overrides, entry) = edited(&found, backend, act, now())?;
            match self.note(&found, overrides).await {
                Ok(()) => return Ok(entry),
                Err(error) if is_race(&error) => {}
                Err(error) => return Err(self.error(&error)),
            }
        }
        Err(EditError::Busy)
    }

    /// The object that has this name: of several the one that is served. Asked for by itself, never by
    /// a list of all: the feed knows which it is, and what the feed has not heard of yet has the name
    /// that is given here.
    async fn find(&self, cluster: &str) -> Asked<Option<DynamicObject>> {
        let known = self.owner(cluster);
        let ours = object_name(cluster);
        let other = known.filter(|known| *known != ours);
        for name in other.into_iter().chain([ours]) {
            let found = self.objects.get_opt(&name).await?;
            let claims = |it: &DynamicObject| Object::of(it.clone()).claim() == Some(cluster);
            if let Some(found) = found.filter(claims) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The object that has this name as far as the feed knows.
    fn owner(&self, cluster: &str) -> Option<String> {
        let told = self.told.borrow();
        let has =
            |it: &&Report| it.name.as_deref() == Some(cluster) && it.verdict != Verdict::NameTaken;
        let reports = told.view.reports.iter().filter(has);
        let report = reports.min_by_key(|it| it.verdict == Verdict::Deleting)?;
        Some(report.object.as_ref()?.name.clone())
    }

    async fn put(
        &self,
        cluster: &str,
        found: Option<DynamicObject>,
        next: &Value,
    ) -> Asked<DynamicObject> {
        let mut spec = next.clone();
        let fields = spec.as_object_mut();
        if let Some(mut object) = found {
            let name = object.metadata.name.clone().unwrap_or_default();
            if let Some(fields) = fields
                && fields.get("name").is_some_and(|said| *said == *name)
            {
                fields.remove("name");
            }
            // With the version that was read: whoever wrote meanwhile wins.
            object.data["spec"] = spec;
            return self
                .objects
                .replace(&name, &PostParams::default(), &object)
                .await;
        }
        let name = object_name(cluster);
        if let Some(fields) = fields.filter(|_| name == cluster) {
            fields.remove("name");
        }
        let object = DynamicObject::new(&name, &crd::resource()).data(json!({"spec": spec}));
        self.objects.create(&PostParams::default(), &object).await
    }

    /// What stands there still, if anything does.
    async fn delete(&self, object: &DynamicObject) -> Asked<Option<DynamicObject>> {
        let params = DeleteParams::default().preconditions(Preconditions {
            resource_version: object.metadata.resource_version.clone(),
            uid: object.metadata.uid.clone(),
        });
        let name = object.metadata.name.clone().unwrap_or_default();
        Ok(self.objects.delete(&name, &params).await?.left())
    }

    async fn note(&self, object: &DynamicObject, overrides: Option<String>) -> Asked<()> {
        let metadata = &object.metadata;
        let patch = json!({"metadata": {
            "resourceVersion": metadata.resource_version,
            "annotations": BTreeMap::from([(crd::OVERRIDES, overrides)]),
        }});
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let name = metadata.name.clone().unwrap_or_default();
        let patched = self
            .objects
            .patch(&name, &params, &Patch::Merge(&patch))
            .await;
        patched.map(drop)
    }

    /// Fails where the object that would be this cluster's is another one's: no attempt would ever
    /// succeed.
    async fn ensure_ours(&self, cluster: &str) -> Result<(), EditError> {
        let name = object_name(cluster);
        let found = self.objects.get_opt(&name).await;
        let found = found.map_err(|error| self.error(&error))?.map(Object::of);
        match found {
            Some(found) if found.claim() != Some(cluster) => {
                let owner = found.claim().unwrap_or("none");
                Err(EditError::Refused(format!(
                    "there is a BackendCluster {name} already, and its cluster is {owner}: rename or \
                     delete it first"
                )))
            }
            _ => Ok(()),
        }
    }

    fn error(&self, error: &kube::Error) -> EditError {
        let why = format!("{}: {}", self.place, error_chain(error));
        match is_passing(error) {
            true => EditError::Unreachable(why),
            false => EditError::Refused(why),
        }
    }
}

impl CompareAndSwap for KubernetesEditor {
    /// The object, with its version.
    type Mark = Option<DynamicObject>;

    async fn look(&self, cluster: &str) -> Result<Seen<Option<DynamicObject>>, EditError> {
        let found = self.find(cluster).await;
        let mark = found.map_err(|error| self.error(&error))?;
        if let Some(found) = &mark {
            refuse_deleting(found)?;
        }
        let document = mark.as_ref().map(document);
        Ok(Seen { document, mark })
    }

    async fn swap(
        &self,
        cluster: &str,
        mark: Option<DynamicObject>,
        next: Option<&Value>,
    ) -> Result<Swapped, EditError> {
        if let Some(found) = &mark {
            refuse_deleting(found)?;
        }
        let written = match (mark, next) {
            (None, None) => Ok(None),
            (Some(found), None) => match self.delete(&found).await {
                Ok(Some(held)) => {
                    refuse_deleting(&held)?;
                    Ok(None)
                }
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            },
            (found, Some(next)) => self.put(cluster, found, next).await.map(Some),
        };
        match written {
            Ok(after) => Ok(Swapped::Done(after.as_ref().map(|it| document(it).etag))),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                self.ensure_ours(cluster).await?;
                Ok(Swapped::Overtaken)
            }
            Err(error) if is_race(&error) => Ok(Swapped::Overtaken),
            Err(error) => Err(self.error(&error)),
        }
    }
}

/// Fails where an object was deleted and is held by a finalizer: what is written there is lost with it.
fn refuse_deleting(object: &DynamicObject) -> Result<(), EditError> {
    let Object { name, deleting, .. } = Object::of(object.clone());
    match deleting {
        Some(why) => Err(EditError::Deleting(format!("BackendCluster {name} {why}"))),
        None => Ok(()),
    }
}

/// What an act at `now` makes of the overrides that an object holds (`None`: there are none left), and
/// of the one it is on. Who cannot read them must not write over them: an override would be lost.
fn edited(
    object: &DynamicObject,
    backend: &str,
    act: &Edit,
    now: u64,
) -> Result<(Option<String>, Option<Override>), EditError> {
    let metadata = &object.metadata;
    let annotations = metadata.annotations.as_ref();
    let text = annotations.and_then(|all| all.get(crd::OVERRIDES));
    let overrides = text.map_or(Ok(Map::new()), |text| {
        json::read(text.as_bytes()).and_then(serde_json::from_value)
    });
    let mut overrides: Map<String, Value> = overrides.map_err(|why| {
        let name = metadata.name.as_deref().unwrap_or_default();
        let annotation = crd::OVERRIDES;
        EditError::Refused(format!(
            "the annotation {annotation} of BackendCluster {name} holds overrides that cannot be read \
             ({why}): repair or remove it first"
        ))
    })?;
    let entry = edit_values(&mut overrides, backend, act, now).ok_or(EditError::NothingToEnd)?;
    let text = (!overrides.is_empty()).then(|| Value::Object(overrides).to_string());
    Ok((text, entry))
}

/// The document that an object is.
fn document(object: &DynamicObject) -> Document {
    Document::new(Object::of(object.clone()).text().to_string().into_bytes())
}

fn is_race(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    status.is_conflict() || status.is_already_exists() || status.is_not_found()
}

/// The name of a cluster's object: the cluster's where that is a name in Kubernetes too, else its
/// letters and what tells it from others that look like it (RG-13).
fn object_name(cluster: &str) -> String {
    let good = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let inner = |b: u8| good(b) || matches!(b, b'-' | b'.');
    let bytes = cluster.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    let fits = bytes.iter().all(|b| inner(*b))
        && ends.is_some_and(|(first, last)| good(*first) && good(*last))
        // Each part between dots is a label of its own.
        && cluster.split('.').all(|part| {
            let ends = part.bytes().next().zip(part.bytes().last());
            ends.is_some_and(|(first, last)| good(first) && good(last))
        });
    if fits {
        return cluster.to_owned();
    }
    let hash = hash::hex(hash::text_key(bytes));
    let clean = cluster
        .to_ascii_lowercase()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let room = NAME_MAX - hash.len() - 1;
    let clean = clean.trim_matches('-');
    let clean = clean
        .get(..clean.len().min(room))
        .unwrap_or(clean)
        .trim_end_matches('-');
    match clean {
        "" => hash,
        clean => format!("{clean}-{hash}"),
    }
}

#[cfg(test)]
mod tests;
