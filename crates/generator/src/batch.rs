//! Events and truth as Arrow.

use crate::event::{Event, Flaws};
use crate::people::{Customer, FIRST_BOT, Piece};
use crate::persona::PERSONAS;
use crate::visit::category;
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, StringArray, StringBuilder, StringDictionaryBuilder,
    TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use std::fmt::Write;
use std::sync::Arc;

const TIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

fn names() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8))
}

/// The columns of the log, as a shop's collector has them.
pub fn event_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("message_id", DataType::Utf8, false),
        Field::new("received_at", TIME, false),
        Field::new("event_time", TIME, true),
        Field::new("event_name", names(), false),
        Field::new("customer_id", DataType::Utf8, true),
        Field::new("cookie_id", DataType::Utf8, false),
        Field::new("device_id", DataType::Utf8, false),
        Field::new("item_id", DataType::Utf8, true),
        Field::new("category", DataType::Utf8, true),
        Field::new("order_id", DataType::Utf8, true),
        Field::new("amount", DataType::Float64, true),
    ]))
}

/// The columns of the truth, one row for each row of the log, in its order.
pub fn truth_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("person", DataType::UInt64, false),
        Field::new("visit", DataType::UInt32, false),
        Field::new("is_bot", DataType::Boolean, false),
        Field::new("is_retry", DataType::Boolean, false),
        Field::new("is_double_fire", DataType::Boolean, false),
        Field::new("is_late", DataType::Boolean, false),
        Field::new("is_skewed", DataType::Boolean, false),
        Field::new("is_incomplete", DataType::Boolean, false),
    ]))
}

/// The columns of the truth about people.
pub fn customer_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("person", DataType::UInt64, false),
        Field::new("customer_id", DataType::Utf8, false),
        Field::new("persona", names(), false),
        Field::new("n_visits", DataType::UInt64, false),
        Field::new("n_orders", DataType::UInt64, false),
        Field::new("paid", DataType::Float64, false),
    ]))
}

impl Piece {
    /// The log.
    pub fn event_batch(&self) -> Result<RecordBatch, ArrowError> {
        let events = &self.events;
        let some = |write: &dyn Fn(&mut String, &Event) -> bool| texts(events, write);
        let mut kinds = StringDictionaryBuilder::<Int8Type>::new();
        events.iter().for_each(|event| kinds.append_value(event.kind.name()));
        let columns: Vec<ArrayRef> = vec![
            some(&|text, event| write!(text, "m{:x}-{:x}", event.person, event.message).is_ok()),
            Arc::new(TimestampMicrosecondArray::from_iter_values(events.iter().map(|event| event.received))),
            Arc::new(TimestampMicrosecondArray::from_iter(events.iter().map(|event| event.time))),
            Arc::new(kinds.finish()),
            some(&|text, event| event.origin.logged_in && write!(text, "{}", CustomerId(event.person)).is_ok()),
            some(&|text, event| write!(text, "k{:x}-{}", event.origin.device, event.origin.cookie).is_ok()),
            some(&|text, event| write!(text, "d{:x}", event.origin.device).is_ok()),
            some(&|text, event| event.item != 0 && write!(text, "p{:04}", event.item).is_ok()),
            some(&|text, event| event.item != 0 && write!(text, "department {}", category(event.item) + 1).is_ok()),
            some(&|text, event| event.order != 0 && write!(text, "o{}-{}", event.person, event.order).is_ok()),
            Arc::new(Float64Array::from_iter(events.iter().map(|event| event.cents.map(|cents| cents as f64 / 100.0)))),
        ];
        RecordBatch::try_new(event_schema(), columns)
    }

    /// The truth about the log.
    pub fn truth_batch(&self) -> Result<RecordBatch, ArrowError> {
        let events = &self.events;
        let flag = |is: fn(&Flaws) -> bool| -> ArrayRef {
            Arc::new(BooleanArray::from_iter(events.iter().map(|event| Some(is(&event.flaws)))))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(events.iter().map(|event| event.person))),
            Arc::new(UInt32Array::from_iter_values(events.iter().map(|event| event.visit))),
            flag(|flaws| flaws.bot),
            flag(|flaws| flaws.retry),
            flag(|flaws| flaws.double_fire),
            flag(|flaws| flaws.late),
            flag(|flaws| flaws.skewed),
            flag(|flaws| flaws.incomplete),
        ];
        RecordBatch::try_new(truth_schema(), columns)
    }

    /// The truth about people.
    pub fn customer_batch(&self) -> Result<RecordBatch, ArrowError> {
        let customers = &self.customers;
        let number = |of: fn(&Customer) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(customers.iter().map(of)))
        };
        let mut personas = StringDictionaryBuilder::<Int8Type>::new();
        customers.iter().for_each(|customer| personas.append_value(PERSONAS[customer.persona].name));
        let ids = customers.iter().map(|customer| CustomerId(customer.person).to_string());
        let columns: Vec<ArrayRef> = vec![
            number(|customer| customer.person),
            Arc::new(StringArray::from_iter_values(ids)),
            Arc::new(personas.finish()),
            number(|customer| customer.n_visits),
            number(|customer| customer.n_orders),
            Arc::new(Float64Array::from_iter_values(customers.iter().map(|customer| customer.cents as f64 / 100.0))),
        ];
        RecordBatch::try_new(customer_schema(), columns)
    }
}

/// How the log names a person.
struct CustomerId(u64);

impl std::fmt::Display for CustomerId {
    fn fmt(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        debug_assert!(self.0 < FIRST_BOT);
        write!(text, "c{:07}", self.0)
    }
}

/// A text of each event, none where `write` says so.
fn texts(events: &[Event], write: &dyn Fn(&mut String, &Event) -> bool) -> ArrayRef {
    let mut column = StringBuilder::with_capacity(events.len(), events.len() * 8);
    let mut text = String::new();
    for event in events {
        text.clear();
        column.append_option(write(&mut text, event).then_some(&text));
    }
    Arc::new(column.finish())
}
