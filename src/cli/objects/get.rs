//! `carob get` of kinds other than Pods, and of several at once.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::cli::face::{Face, say, warn_of_unattended};
use crate::cli::objects::rows;
use crate::cli::show::custom::{CustomColumns, SortKey};
use crate::cli::show::object::{self as shown, Named, What};
use crate::cli::show::output::{self, Format};
use crate::cli::show::rows::Columns;
use crate::cli::show::table::Table;
use crate::cli::show::watching::{Happened, Watching};
use crate::manifest::Selector;
use crate::object;
use crate::pod::client;
pub(crate) use crate::pod::verbs::Item;
use crate::pod::verbs::fields::FieldSelector;
use crate::pod::verbs::namespace;
use crate::spec::{Object, ObjectKind};
use crate::{Error, Kind, Result};

impl Item {
    pub(crate) fn v1(&self) -> Value {
        match self {
            Item::Pod(view) => shown::v1(view),
            Item::Object(object) => object.v1(),
        }
    }
}

/// What the command line asks for.
pub(crate) struct Asked {
    pub all_namespaces: bool,
    pub format: Format,
    pub custom: Option<CustomColumns>,
    pub columns: Columns,
    pub head: bool,
    pub sort: Option<SortKey>,
    pub labels: Option<Selector>,
    /// As the command line has it: each kind has fields of its own.
    pub fields: Option<String>,
    pub ignore_not_found: bool,
    /// Names say their kind, as where there are several.
    pub prefixed: bool,
    pub watch: Watching,
}

impl Asked {
    /// More than what is readable of a Secret that is encrypted.
    fn shows_values(&self) -> bool {
        let shown = self.custom.is_some() || self.sort.is_some();
        shown || !matches!(self.format, Format::Table { .. } | Format::Name)
    }
}

/// The items of one kind.
struct Group {
    what: What,
    items: Vec<Item>,
}

pub(crate) fn get(face: &Face, asked: &Asked, resources: &[Named]) -> Result<u8> {
    let (mut groups, mut missing) = (vec![], vec![]);
    for named in resources {
        let mut items = match named.names.is_empty() {
            true => list(face, asked, named.what)?,
            false => find(face, asked, named, &mut missing),
        };
        if asked.shows_values() {
            items = whole_ones(face, items, &mut missing);
        }
        if let Some(key) = &asked.sort {
            key.sort(&mut items, Item::v1)?;
        }
        let what = named.what;
        groups.push(Group { what, items });
    }
    let names = resources.iter().map(|n| n.names.len()).sum::<usize>();
    let is_empty = groups.iter().all(|g| g.items.is_empty());
    match asked.format {
        Format::Table { .. } if is_empty && names == 0 => {
            let namespaced = resources.iter().any(|n| n.what.is_namespaced());
            say(&match namespaced && !asked.all_namespaces {
                true => format!("No resources found in {} namespace.", face.namespace),
                false => "No resources found".to_owned(),
            });
        }
        _ if is_empty && names > 0 => {}
        Format::Table { .. } => output::text(&table(asked, &groups)?, false)?,
        _ => {
            let items = groups.iter().flat_map(|g| &g.items);
            asked
                .format
                .print(items.map(Item::v1).collect(), names != 1)?;
        }
    }
    face.first_of(missing).map(|()| 0)
}

fn list(face: &Face, asked: &Asked, what: What) -> Result<Vec<Item>> {
    let namespace = (!asked.all_namespaces).then_some(face.namespace.as_str());
    let mut all = all_of(face, what, namespace, asked.labels.as_ref())?;
    if let Some(fields) = &asked.fields {
        let kind = match what {
            What::Pod => None,
            What::Object(kind) => Some(kind),
        };
        let fields = FieldSelector::parse(fields, kind)?;
        all.retain(|item| match item {
            Item::Pod(view) => fields.matches(view, &asked.columns.node),
            Item::Object(object) => fields.matches_object(object),
        });
    }
    Ok(all)
}

/// Every one of a kind, of one namespace or of all; see [`whole`].
pub(crate) fn all_of(
    face: &Face,
    what: What,
    namespace: Option<&str>,
    labels: Option<&Selector>,
) -> Result<Vec<Item>> {
    let fits = |map: &BTreeMap<String, String>| labels.is_none_or(|s| s.matches(map));
    let objects = match what {
        What::Pod => {
            let mut views = client::list(&face.layout, namespace)?;
            views.retain(|v| fits(&v.pod.labels));
            warn_of_unattended(&views);
            return Ok(views.into_iter().map(|v| Item::Pod(Box::new(v))).collect());
        }
        What::Object(ObjectKind::Namespace) => namespace::list(&face.layout)?,
        What::Object(kind) => object::list(&face.layout, kind, namespace)?,
    };
    let objects = objects.into_iter().filter(|o| fits(&o.metadata("labels")));
    Ok(objects.map(|o| Item::Object(Box::new(o))).collect())
}

/// Those that exist are shown whatever the others do.
fn find(face: &Face, asked: &Asked, named: &Named, missing: &mut Vec<Error>) -> Vec<Item> {
    let mut items = vec![];
    for name in &named.names {
        match one(face, named.what, name) {
            Ok(item) => items.push(item),
            Err(e) if e.kind() == Kind::NotFound && asked.ignore_not_found => {}
            Err(e) => missing.push(e),
        }
    }
    items
}

/// The object of this name, in the namespace of the command line; see [`whole`].
pub(crate) fn one(face: &Face, what: What, name: &str) -> Result<Item> {
    one_in(face, what, &face.namespace, name)
}

pub(crate) fn one_in(face: &Face, what: What, namespace: &str, name: &str) -> Result<Item> {
    let layout = &face.layout;
    Ok(match what {
        What::Pod => {
            let view = client::find(layout, namespace, name)?;
            warn_of_unattended(std::slice::from_ref(&view));
            Item::Pod(Box::new(view))
        }
        What::Object(ObjectKind::Namespace) => {
            Item::Object(Box::new(namespace::find(layout, name)?))
        }
        What::Object(kind) => Item::Object(Box::new(object::get_outline(
            layout, kind, namespace, name,
        )?)),
    })
}

/// With the values of a Secret that is encrypted, which the item may be without.
pub(crate) fn whole(face: &Face, item: Item) -> Result<Item> {
    Ok(match item {
        Item::Object(o) if o.kind == ObjectKind::Secret => Item::Object(Box::new(object::get(
            &face.layout,
            o.kind,
            &o.namespace,
            &o.name,
        )?)),
        other => other,
    })
}

/// As [`whole`], of those that can be decrypted.
pub(crate) fn whole_ones(face: &Face, items: Vec<Item>, failed: &mut Vec<Error>) -> Vec<Item> {
    let mut whole_ones = vec![];
    for item in items {
        match whole(face, item) {
            Ok(item) => whole_ones.push(item),
            Err(e) => failed.push(e),
        }
    }
    whole_ones
}

fn table(asked: &Asked, groups: &[Group]) -> Result<String> {
    let now = Timestamp::now();
    let shown: Vec<&Group> = groups.iter().filter(|g| !g.items.is_empty()).collect();
    if let Some(custom) = &asked.custom {
        let mut table = Table::default();
        if asked.head {
            table.row(custom.head());
        }
        for item in shown.iter().flat_map(|g| &g.items) {
            table.row(custom.row(&item.v1())?);
        }
        return Ok(table.take());
    }
    // As kubectl: where there are several kinds, each name says its own.
    let prefixed = asked.prefixed || groups.len() > 1;
    let mut texts = vec![];
    for group in shown {
        let mut table = Table::default();
        let columns = &asked.columns;
        if asked.head {
            table.row(match group.what {
                What::Pod => columns.head(),
                What::Object(kind) => rows::head(kind, columns),
            });
        }
        for item in &group.items {
            let name = match prefixed {
                true => format!("{}/{}", group.what.singular(), item.name()),
                false => item.name().to_owned(),
            };
            table.row(match item {
                Item::Pod(view) => {
                    let mut row = columns.row(view, now);
                    if let Some(cell) = row.get_mut(usize::from(columns.namespace)) {
                        *cell = name;
                    }
                    row
                }
                Item::Object(object) => rows::row(object, name, columns, now),
            });
        }
        texts.push(table.take());
    }
    Ok(texts.join("\n"))
}

/// With a row, or an object, for each that comes, changes or goes, from now on too.
pub(crate) fn follow(face: &Face, asked: &Asked, resources: &[Named]) -> Result<u8> {
    let [named] = resources else {
        return Err(Error::usage(
            "you may only specify a single resource type with --watch",
        ));
    };
    let What::Object(kind) = named.what else {
        return Err(Error::usage(
            "you may only specify a single resource type with --watch",
        ));
    };
    let namespace = (!asked.all_namespaces).then_some(face.namespace.as_str());
    let mut watcher = object::Watcher::new(&face.layout, kind, namespace)?;
    if let [name] = named.names.as_slice() {
        one(face, named.what, name)?;
    }
    let mut table = Table::default();
    let mut head = asked.head;
    let mut shown = Shown::new();
    let mut silent = asked.watch.only;
    loop {
        let mut now = Shown::new();
        for item in list(face, asked, named.what)? {
            if let Item::Object(object) = item
                && (named.names.is_empty() || named.names.contains(&object.name))
            {
                now.insert((object.namespace.clone(), object.name.clone()), object);
            }
        }
        let news = news(&shown, &now);
        for (happened, object) in news.into_iter().filter(|_| !silent) {
            // One that has gone has no values any more.
            let whole = match asked.shows_values() && happened != Happened::Deleted {
                true => match whole(face, Item::Object(Box::new(object.clone()))) {
                    Err(e) if e.kind() == Kind::NotFound => None,
                    whole => Some(whole?),
                },
                false => None,
            };
            let object = match &whole {
                Some(Item::Object(whole)) => whole,
                _ => object,
            };
            let Format::Table { .. } = asked.format else {
                let value = asked.watch.value(&asked.format, happened, object.v1());
                asked.format.print(vec![value], false)?;
                continue;
            };
            if std::mem::take(&mut head) {
                table.row(asked.watch.head(match &asked.custom {
                    Some(custom) => custom.head(),
                    None => rows::head(kind, &asked.columns),
                }));
            }
            let name = object.name.clone();
            let row = match &asked.custom {
                Some(custom) => custom.row(&object.v1())?,
                None => rows::row(object, name, &asked.columns, Timestamp::now()),
            };
            table.row(asked.watch.row(happened, row));
        }
        output::text(&table.take(), false)?;
        silent = false;
        shown = now;
        watcher.wait(None)?;
    }
}

/// By namespace and name.
type Shown = BTreeMap<(String, String), Box<Object>>;

/// What has happened between two looks; of what has gone, as it was.
fn news<'o>(before: &'o Shown, now: &'o Shown) -> Vec<(Happened, &'o Object)> {
    let is_another = |a: &Object, b: &Object| {
        // A namespace that is there because something is in it has no uid.
        a.uid != b.uid && !a.uid.is_empty() && !b.uid.is_empty()
    };
    let gone = before.iter().filter(|(key, old)| {
        let new = now.get(*key);
        new.is_none_or(|new| is_another(old, new))
    });
    let mut news: Vec<_> = gone.map(|(_, old)| (Happened::Deleted, &**old)).collect();
    for (key, new) in now {
        match before.get(key) {
            Some(old) if !is_another(old, new) => {
                let version = |o: &Object| (o.uid.clone(), o.resource_version, o.deletion);
                if version(old) != version(new) {
                    news.push((Happened::Modified, new));
                }
            }
            _ => news.push((Happened::Added, new)),
        }
    }
    news
}
